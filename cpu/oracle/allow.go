package oracle

func allow(c *Case, host, emu *Outcome, diffs []Diff, used map[string]uint64) []Diff { return diffs }
