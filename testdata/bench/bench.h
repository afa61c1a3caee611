// bench.h - what the guest workloads share.
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>

// Each does a fixed amount of work and returns a number that depends on all of it.
uint64_t bench_integer(void);
uint64_t bench_chase(void);
uint64_t bench_memcpy(void);
uint64_t bench_float(void);
uint64_t bench_x87(void);
uint64_t bench_syscall(void);
uint64_t bench_procfs(void);
uint64_t bench_fork(void);
uint64_t bench_fault(void);

_Noreturn void fail(const char *what);

#endif
