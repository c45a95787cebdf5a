"""A WASI 0.2 command in Python: exports wasi:cli/run.

Build (about 18 MB, so it is not committed):
    pip install componentize-py==0.25.1
    componentize-py --wit-path wit --world greet componentize app -o greet.wasm
"""

import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        print("hello from Python", sys.version.split()[0])
