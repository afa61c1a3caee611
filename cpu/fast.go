package cpu

func fastHandler(u *uop) handler { return nil }
