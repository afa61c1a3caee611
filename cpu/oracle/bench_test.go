package oracle

import "testing"

func BenchmarkCases(b *testing.B) {
	w, err := newWorker(1, newMenu(nil))
	if err != nil {
		b.Skip(err)
	}
	defer w.close()
	w.failed = func(*Failure) {}
	for n := 0; n < b.N; n += batchSize {
		if err := w.batch(uint64(n), uint64(n)+batchSize); err != nil {
			b.Fatal(err)
		}
	}
}
