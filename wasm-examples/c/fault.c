/* Divides by zero two calls deep: its debug information says where. `fault.wasm` is built and committed.

   python3 -m ziglang cc -target wasm32-freestanding -g -O1 -nostdlib -ffile-prefix-map=$PWD=. \
       -Wl,--no-entry -Wl,--export=_start -o fault.wasm fault.c */

__attribute__((noinline)) static int share(int total, int among) {
    return total / among;
}

__attribute__((noinline)) static int shares(volatile int *among) {
    return share(100, *among) + 1;
}

void _start(void) {
    volatile int nobody = 0;
    nobody = shares(&nobody);
}
