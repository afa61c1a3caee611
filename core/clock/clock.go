package clock

import "container/heap"

// Time is guest time in nanoseconds since the machine was created. It advances with executed instructions
// (one nanosecond each) and jumps over idle periods, so a run repeats exactly.
type Time uint64

// Never is a deadline that does not come.
const Never Time = ^Time(0)

// Queue is guest time and the timers that wait for it. It is not safe for concurrent use: all calls come from
// the goroutine that runs the machine. Timers that are due at the same time fire in the order in which they were set.
type Queue struct {
	now    func() Time
	heap   timerHeap
	seq    uint64
	sooner func(Time)
}

// NewQueue returns an empty queue that reads guest time from now. When the earliest deadline moves forward,
// sooner is called with it, so that a vCPU that is running can be bounded again; sooner may be nil.
func NewQueue(now func() Time, sooner func(Time)) *Queue {
	return &Queue{now: now, sooner: sooner}
}

// Now returns guest time.
func (q *Queue) Now() Time { return q.now() }

// Timer calls a function once guest time reaches its deadline.
type Timer struct {
	q        *Queue
	fire     func()
	deadline Time
	seq      uint64
	index    int
}

// NewTimer returns an unset timer that calls fire on the machine's goroutine. fire may set the timer again.
func (q *Queue) NewTimer(fire func()) *Timer {
	return &Timer{q: q, fire: fire, index: -1, deadline: Never}
}

// Set arms the timer for deadline, replacing an earlier setting. A deadline in the past fires at the next RunDue.
func (t *Timer) Set(deadline Time) {
	t.Stop()
	t.deadline = deadline
	if deadline == Never {
		return
	}
	t.q.seq++
	t.seq = t.q.seq
	heap.Push(&t.q.heap, t)
	if t.index == 0 && t.q.sooner != nil {
		t.q.sooner(deadline)
	}
}

// Stop disarms the timer; it does nothing if the timer is not set.
func (t *Timer) Stop() {
	if t.index >= 0 {
		heap.Remove(&t.q.heap, t.index)
	}
	t.deadline = Never
}

// Deadline returns when the timer fires, or Never.
func (t *Timer) Deadline() Time { return t.deadline }

// Next returns the earliest deadline, or Never.
func (q *Queue) Next() Time {
	if len(q.heap) == 0 {
		return Never
	}
	return q.heap[0].deadline
}

// RunDue fires every timer whose deadline is not after Now, in order.
func (q *Queue) RunDue() {
	for len(q.heap) > 0 && q.heap[0].deadline <= q.now() {
		t := heap.Pop(&q.heap).(*Timer)
		t.deadline = Never
		t.fire()
	}
}

type timerHeap []*Timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].deadline != h[j].deadline {
		return h[i].deadline < h[j].deadline
	}
	return h[i].seq < h[j].seq
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index = i
	h[j].index = j
}

func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	t.index = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
