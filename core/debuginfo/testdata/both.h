#include <stddef.h>

struct far;

typedef struct {
	char first;
	volatile long second;
} inner_t;

enum color { RED, GREEN };

union either {
	long long wide;
	char bytes[12];
};

struct near {
	short s;
	struct far *far;
	unsigned low : 3, high : 7;
	signed char after;
	inner_t inner;
	union {
		int nameless;
		char bytes[3];
	};
	const int matrix[2][5];
	char rest[];
};

struct table {
	enum color color;
	int (*ops)(struct near *);
	const void *any;
	union either either;
	long long wide;
	_Bool yes;
};

struct far *second_far(void);
