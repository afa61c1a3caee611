#include "both.h"

struct near here;
struct table tables[2];
/* What the compiler itself says about far.h's and near's members, in the order of the test's list. */
__attribute__((section(".expected"), used)) const unsigned expected[] = {
	offsetof(struct near, far),
	offsetof(struct near, after),
	offsetof(struct near, inner.second),
	offsetof(struct near, nameless),
	offsetof(struct near, matrix),
	sizeof(struct near),
	offsetof(struct table, ops),
	offsetof(struct table, wide),
	sizeof(union either),
};

void _start(void) { here.far = second_far(); }
