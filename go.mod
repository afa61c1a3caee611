module github.com/hybridbridge/emu

go 1.26
