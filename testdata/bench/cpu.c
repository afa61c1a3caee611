// Workloads that stay in user space.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

// Shifts, multiplications, divisions, compares, unpredictable branches and a small table.
uint64_t bench_integer(void) {
  uint64_t x = 88172645463325252u, sum = 0;
  uint32_t table[256] = {0};
  for (int i = 0; i < 30000000; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    table[x & 255] += (uint32_t)(x >> 32);
    if (x & 1) {
      sum += x * 0x9e3779b97f4a7c15u;
    } else if (x & 2) {
      sum ^= sum << 5 | sum >> 59;
    } else {
      sum += x % 1000003;
    }
  }
  for (int i = 0; i < 256; i++) sum = sum * 31 + table[i];
  return sum;
}

// One dependent load after the other, over 4 MiB in a random cycle: the TLB's workload.
uint64_t bench_chase(void) {
  enum { n = 1 << 19 };
  uint64_t *next = malloc(n * sizeof *next), x = 12345, at = 0;
  if (!next) fail("malloc");
  for (uint64_t i = 0; i < n; i++) next[i] = i;
  for (uint64_t i = n - 1; i > 0; i--) {  // Sattolo: one cycle through all
    x = x * 6364136223846793005u + 1442695040888963407u;
    uint64_t j = (x >> 33) % i, t = next[i];
    next[i] = next[j];
    next[j] = t;
  }
  uint64_t sum = 0;
  for (int i = 0; i < 3000000; i++) {
    at = next[at];
    sum += at;
  }
  free(next);
  return sum;
}

// Copies of all sizes, by the C library (SSE2 or rep movsb, as it chooses by CPUID).
uint64_t bench_memcpy(void) {
  enum { n = 4 << 20 };
  unsigned char *a = malloc(n), *b = malloc(n);
  if (!a || !b) fail("malloc");
  for (int i = 0; i < n; i++) a[i] = (unsigned char)(i * 7 + (i >> 8));
  memset(b, 0, n);
  for (int round = 0; round < 40; round++) {
    memcpy(b, a, n);
    memmove(a + 64, b, n - 64);
    a[round] ^= b[n - 1 - round];
  }
  for (int i = 0; i < 400000; i++) {
    int size = (i * 37 & 511) + 1, from = i * 131 & (n / 2 - 1), to = n / 2 + (i * 61 & (n / 2 - 1024));
    memcpy(a + to, b + from, (size_t)size);
  }
  uint64_t sum = 0;
  for (int i = 0; i < n; i += 8) {
    uint64_t w;
    memcpy(&w, a + i, 8);
    sum = sum * 31 + w;
  }
  free(a);
  free(b);
  return sum;
}

// SSE2 doubles: a matrix product, divisions, square roots, conversions.
uint64_t bench_float(void) {
  enum { n = 96 };
  static double a[n][n], b[n][n], c[n][n];
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < n; j++) {
      a[i][j] = 1.0 / (i + j + 1);
      b[i][j] = (double)(i * j % 17) - 8;
    }
  }
  for (int round = 0; round < 40; round++) {
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        double s = 0;
        for (int k = 0; k < n; k++) s += a[i][k] * b[k][j];
        c[i][j] = s;
      }
    }
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) a[i][j] = sqrt(c[i][j] * c[i][j] + 1.0) / (1.0 + (double)((int)c[i][j] & 7));
    }
  }
  double s = 0;
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < n; j++) s = s * 0.5 + a[i][j];
  }
  uint64_t bits;
  memcpy(&bits, &s, 8);
  return bits;
}

// The 80-bit stack: addition, multiplication, division, roots and the transcendental instructions.
uint64_t bench_x87(void) {
  long double s = 0, x = 0.5L;
  for (int i = 1; i <= 1200000; i++) {
    long double r;
    __asm__("fsqrt" : "=t"(r) : "0"((long double)i));
    x = x * 3.9L * (1 - x);
    s += x / r + 1.0L / i;
    if (i % 64 == 0) {
      __asm__("fsin" : "=t"(r) : "0"(x));
      s += r;
    }
  }
  // Double precision only: x87 transcendentals differ in their last bits between CPUs.
  uint64_t whole = (uint64_t)(s * 1000000);
  return whole;
}
