// bench NAME... | all: runs workloads of fixed size, each between two lines on stdout,
//   BENCH <name> start
//   BENCH <name> end <result>
// so that a harness outside can time it by its own clock.  The results are the same on every machine;
// the lines leave before the work begins and after it has ended (the console is drained).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "bench.h"

static const struct {
  const char *name;
  uint64_t (*run)(void);
  uint64_t want;
} benches[] = {
    {"integer", bench_integer, 0xaa870284793606a7},
    {"chase", bench_chase, 0x000000b71893bbf9},
    {"memcpy", bench_memcpy, 0x8505c1ca0c9f88ec},
    {"float", bench_float, 0x526102b6e420cfc1},
    {"x87", bench_x87, 0x00000002a27e36b4},
    {"syscall", bench_syscall, 0x00000000000c3500},
    {"procfs", bench_procfs, 0x0000000000000048},
    {"fork", bench_fork, 0xac4f8d8ea68170c8},
    {"fault", bench_fault, 0x00000000004fb000},
};

_Noreturn void fail(const char *what) {
  perror(what);
  exit(1);
}

static void say(const char *line) {
  if (write(1, line, strlen(line)) < 0) exit(1);
  tcdrain(1);
}

int main(int argc, char **argv) {
  int wrong = 0;
  for (int a = 1; a < argc; a++) {
    int found = 0;
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++) {
      if (strcmp(argv[a], "all") && strcmp(argv[a], benches[i].name)) continue;
      char line[96];
      found = 1;
      snprintf(line, sizeof line, "BENCH %s start\n", benches[i].name);
      say(line);
      uint64_t got = benches[i].run();
      snprintf(line, sizeof line, "BENCH %s end %016llx\n", benches[i].name, (unsigned long long)got);
      say(line);
      if (got != benches[i].want) {
        snprintf(line, sizeof line, "BENCH %s WRONG\n", benches[i].name);
        say(line);
        wrong = 1;
      }
    }
    if (!found) {
      fprintf(stderr, "bench: no workload %s\n", argv[a]);
      return 2;
    }
  }
  return wrong;
}
