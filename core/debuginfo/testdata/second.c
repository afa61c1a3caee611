#include "both.h"

struct far {
	char c;
	struct near *near;
	struct far *next;
};

struct far one;
struct far *second_far(void) { return &one; }
