// Prints the number of primes below its argument (default 100000).
// Build (zig brings a C compiler for Wasm, from the Python package index):
//   pip install ziglang && python3 -m ziglang cc -target wasm32-wasi -O2 -s -o primes.wasm primes.c
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    char *end = "";
    long limit = argc > 1 ? strtol(argv[1], &end, 10) : 100000;
    if (*end != '\0' || limit < 2 || limit > 100000000) {
        fprintf(stderr, "usage: primes [LIMIT], from 2 to 100000000\n");
        return 2;
    }
    char *composite = calloc(limit, 1);
    if (composite == NULL) {
        fprintf(stderr, "no memory for %ld flags: raise the container's memory limit\n", limit);
        return 1;
    }
    long count = 0;
    for (long i = 2; i < limit; i++) {
        if (composite[i]) continue;
        count++;
        for (long j = i * 2; j < limit; j += i) composite[j] = 1;
    }
    printf("%ld primes below %ld\n", count, limit);
    return 0;
}
