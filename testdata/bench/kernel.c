// Workloads that live in the kernel.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

uint64_t bench_syscall(void) {
  long pid = getpid();
  for (int i = 0; i < 800000; i++) {
    if (syscall(SYS_getpid) != pid) fail("getpid");
  }
  return 800000;
}

// What ps does: every process's stat, status and cmdline, and some global files.
uint64_t bench_procfs(void) {
  static const char *const global[] = {"/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/vmstat"};
  static const char *const each[] = {"stat", "status", "cmdline"};
  static char buf[65536];
  for (int round = 0; round < 72; round++) {
    for (size_t i = 0; i < sizeof global / sizeof *global; i++) {
      int fd = open(global[i], O_RDONLY);
      if (fd < 0) fail(global[i]);
      while (read(fd, buf, sizeof buf) > 0) {
      }
      close(fd);
    }
    DIR *d = opendir("/proc");
    if (!d) fail("/proc");
    for (struct dirent *e; (e = readdir(d));) {
      if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
      for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/%s", e->d_name, each[i]);
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;
        while (read(fd, buf, sizeof buf) > 0) {
        }
        close(fd);
      }
    }
    closedir(d);
  }
  return 72;
}

uint64_t bench_fork(void) {
  uint64_t sum = 0;
  for (int i = 0; i < 400; i++) {
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid == 0) _exit(i & 127);
    int status;
    if (waitpid(pid, &status, 0) != pid) fail("waitpid");
    sum = sum * 31 + (uint64_t)WEXITSTATUS(status);
  }
  return sum;
}

uint64_t bench_fault(void) {
  enum { pages = 4096 };
  uint64_t sum = 0;
  for (int round = 0; round < 10; round++) {
    char *p = mmap(NULL, pages * 4096L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail("mmap");
    madvise(p, pages * 4096L, MADV_NOHUGEPAGE);
    for (long i = 0; i < pages; i++) p[i * 4096] = (char)i;
    if (mprotect(p, pages * 4096L, PROT_READ)) fail("mprotect");
    for (long i = 0; i < pages; i++) sum += (unsigned char)p[i * 4096];
    munmap(p, pages * 4096L);
  }
  return sum;
}
