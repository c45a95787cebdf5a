// A WASI 0.2 command in JavaScript: exports wasi:cli/run.
// Build (about 14 MB, so it is not committed):
//   npm install -g @bytecodealliance/jco@1.24.6 @bytecodealliance/componentize-js@0.23.0
//   jco componentize greet.js --wit greet.wit --world-name greet --out greet.wasm
export const run = {
  run() {
    console.log("hello from JavaScript");
  },
};
