#!/usr/bin/env python3
"""Records what the host CPU makes of integer instructions: run on x86-64 Linux, writes integer.txt beside itself.

A line is: bytes, then RAX RCX RDX RBX and the six arithmetic flags before, then after; # and the assembly.
"""
import ctypes, mmap, os, random, struct, subprocess, tempfile

R = {8: ["al", "cl", "dl", "bl"], 16: ["ax", "cx", "dx", "bx"], 32: ["eax", "ecx", "edx", "ebx"], 64: ["rax", "rcx", "rdx", "rbx"]}
asm = []
for n in (8, 16, 32, 64):
    a, c, d, b = R[n]
    imm = "0x7f" if n == 8 else "0x1234"
    for op in "add adc sub sbb and or xor cmp test".split():
        asm += [f"{op} {a}, {c}", f"{op} {a}, {imm}", f"{op} {d}, -5"]
    asm += [f"{op} {a}" for op in "inc dec neg not mul imul".split()]
    for op in "shl shr sar rol ror rcl rcr".split():
        asm += [f"{op} {a}, cl", f"{op} {a}, 1", f"{op} {d}, 5", f"{op} {b}, {n-1}"]
    asm += [f"xadd {a}, {d}", f"xchg {a}, {d}", f"cmpxchg {d}, {b}", f"cmpxchg {a}, {b}"]
    if n == 8:
        asm += ["add ah, cl", "sub ch, dh", "mov ah, bl", "movzx edx, ah", "div cl", "idiv cl", "lahf", "sahf", "setg al",
                "setbe dh", "xchg al, ah"]
    else:
        asm += [f"bt {a}, {c}", f"bts {a}, {c}", f"btr {d}, 5", f"btc {b}, {c}", f"bsf {a}, {c}", f"bsr {a}, {c}",
                f"shld {a}, {d}, cl", f"shrd {a}, {d}, cl", f"shld {a}, {d}, 7", f"shrd {a}, {d}, 13", f"popcnt {a}, {d}",
                f"imul {a}, {d}", f"imul {a}, {d}, -77", f"tzcnt {a}, {d}", f"lzcnt {a}, {d}", f"cmovl {a}, {c}",
                f"cmovbe {a}, {c}", f"movsx {a}, cl", f"lea {a}, [rcx+rdx*4-9]", f"div {c}", f"idiv {c}"]
asm += ["bswap eax", "bswap rax", ".byte 0x66, 0x0f, 0xc8", "cbw", "cwde", "cdqe", "cwd", "cdq", "cqo", "crc32 eax, cl",
        "crc32 eax, cx", "crc32 eax, ecx", "crc32 rax, rcx", "movsxd rax, ecx", "adcx eax, ecx", "adox eax, ecx",
        "adcx rax, rcx", "adox rax, rcx", "clc", "stc", "cmc", ".byte 0x66, 0x63, 0xc1", "lea eax, [ecx+edx]"]

edge = [0, 1, 2, 7, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
        0x8000000000000000, 0xffffffffffffffff, 0x123456789abcdef0]
random.seed(1)

def assemble(lines):
    with tempfile.TemporaryDirectory() as d:
        src = "".join(f".balign 32, 0xcc\nL{i}: {l}\n E{i}:\n" for i, l in enumerate(lines))
        src = ".intel_syntax noprefix\n" + src + "\n.section .t,\"\"\n" + "".join(f".long E{i}-L{i}\n" for i in range(len(lines)))
        open(d + "/a.s", "w").write(src)
        subprocess.check_call(["as", "-o", d + "/a.o", d + "/a.s"])
        subprocess.check_call(["objcopy", "-O", "binary", "-j", ".text", d + "/a.o", d + "/t"])
        subprocess.check_call(["objcopy", "-O", "binary", "-j", ".t", d + "/a.o", "--set-section-flags", ".t=alloc", d + "/l"])
        text, lens = open(d + "/t", "rb").read(), open(d + "/l", "rb").read()
        return [text[32 * i:32 * i + struct.unpack_from("<I", lens, 4 * i)[0]] for i in range(len(lines))]

# State in memory at rdi: rax rcx rdx rbx rflags.
PRE = bytes.fromhex("53 57 ff7720 9d 488b07 488b4f08 488b5710 488b5f18".replace(" ", ""))
POST = bytes.fromhex("9c 57 488b7c2410 488907 48894f08 48895710 48895f18 5f 58 5f 48894720 5b c3".replace(" ", ""))
buf = mmap.mmap(-1, 4096, prot=7)
addr = ctypes.addressof(ctypes.c_char.from_buffer(buf))
call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(addr)

def native(code, state):
    buf[0:512] = PRE + code + POST + b"\xcc" * (512 - len(PRE + code + POST))
    s = (ctypes.c_uint64 * 5)(*state)
    call(ctypes.addressof(s))
    return list(s)

def divides(text, s):
    """Whether a division would not fault (checked in a child)."""
    pid = os.fork()
    if pid == 0:
        native(text, s)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0

lines = []
for text, code in zip(asm, assemble(asm)):
    for _ in range(7):
        v = [random.choice(edge) if random.random() < 0.7 else random.getrandbits(64) for _ in range(4)]
        if text.endswith(", cl"):
            v[1] = v[1] & ~0xff | random.choice([0, 1, 2, 7, 8, 9, 15, 16, 17, 18, 27, 31, 32, 33, 63, 64, 255])
        if "div" in text:
            v[2], v[0] = random.choice([0, 1, v[2] & 0xff]), random.getrandbits(random.choice([6, 14, 30, 62]))
        flags = random.getrandbits(12) & 0x8d5
        if "div" in text and not divides(code, v + [flags | 0x202]):
            continue
        out = native(code, v + [flags | 0x202])
        lines.append("%s %s %x %s %x # %s" % (code.hex(), " ".join("%x" % x for x in v), flags,
                     " ".join("%x" % x for x in out[:4]), out[4] & 0x8d5, text))
open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "integer.txt"), "w").write("\n".join(lines) + "\n")
print(len(lines))
