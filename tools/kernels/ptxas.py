"""Compiles kernels for an NVIDIA GPU that is not there, and prints what their loops cost.

    python3 ptxas.py PACKAGES KERNELS NAME

naga's HLSL becomes CUDA by Slang, then machine code for sm_89 by nvcc. PACKAGES is a folder with the packages slangpy and
nvidia-* of pip (see `.ci/ptxas`), KERNELS is what `gibbs-kernels dump` wrote; only kernels whose names contain NAME are
compiled. NVIDIA's Vulkan driver is another compiler, and reads uniforms otherwise: these are counts to compare with each
other, not its.
"""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ARCHITECTURE = "sm_89"

# An operation belongs to the first unit with a prefix that it begins with.
UNITS = {
    "FP32": ("FFMA", "FADD", "FMUL", "FMNMX", "FSEL", "FSET", "FCHK"),
    "MUFU": ("MUFU",),
    "conversions": ("I2F", "F2I", "FRND"),
    "moves": ("IMAD.MOV", "IMAD.SHL", "IMAD.IADD", "MOV"),
    "products": ("IMAD", "UIMAD"),
    "loads, stores": ("LDG", "STG", "ATOM", "RED", "LDL", "STL", "LDC", "ULDC"),
    "shared": ("LDS", "STS"),
    "control": ("BRA", "EXIT", "BSSY", "BSYNC", "BAR", "WARPSYNC", "CALL", "RET", "NOP", "YIELD", "BREAK"),
}
OTHER = "integer, logic"


def to_cuda(slang, hlsl, cuda):
    """Translates an entry point, by the C interface of the Slang compiler."""
    slang.spCreateSession.restype = ctypes.c_void_p
    slang.spCreateCompileRequest.restype = ctypes.c_void_p
    slang.spGetDiagnosticOutput.restype = ctypes.c_char_p
    session = ctypes.c_void_p(slang.spCreateSession(None))
    request = ctypes.c_void_p(slang.spCreateCompileRequest(session))
    entry = hlsl.name.split(".")[-2]
    arguments = ["-lang", "hlsl", hlsl, "-target", "cuda", "-entry", entry, "-stage", "compute", "-O3", "-o", cuda]
    array = (ctypes.c_char_p * len(arguments))(*(str(argument).encode() for argument in arguments))
    if slang.spProcessCommandLineArguments(request, array, len(arguments)) or slang.spCompile(request):
        said = (slang.spGetDiagnosticOutput(request) or b"").decode().strip()
        raise RuntimeError(said.splitlines()[0] if said else "Slang refuses it")
    # The library leaves it to its caller to write the file.
    blob = ctypes.c_void_p()
    slang.spGetEntryPointCodeBlob.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    if slang.spGetEntryPointCodeBlob(request, 0, 0, ctypes.byref(blob)) or not blob.value:
        raise RuntimeError("Slang has no code for it")
    # The fourth and the fifth function of an ISlangBlob return its address and its size.
    functions = ctypes.cast(ctypes.cast(blob, ctypes.POINTER(ctypes.c_void_p))[0], ctypes.POINTER(ctypes.c_void_p))
    address = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(functions[3])(blob)
    size = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)(functions[4])(blob)
    cuda.write_bytes(ctypes.string_at(address, size))


def unit_of(operation):
    return next((unit for unit, prefixes in UNITS.items() if operation.startswith(prefixes)), OTHER)


def loops(disassembly):
    """The instructions of each loop by unit, without the loops inside it. A branch backwards closes a loop."""
    labels, code = {}, []
    for line in disassembly.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(code)
        elif operation := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", line):
            code.append((operation[1], operation[2]))
    spans = []
    for at, (operation, rest) in enumerate(code):
        target = re.search(r"`\((\.L_\w+)\)", rest)
        # A branch to itself is the trap behind the end of a kernel.
        if operation.startswith("BRA") and target and labels.get(target[1], at) < at:
            spans.append((labels[target[1]], at))
    found = []
    for first, last in sorted(spans):
        inner = [span for span in spans if span != (first, last) and first <= span[0] and span[1] <= last]
        counts = dict.fromkeys([*UNITS, OTHER], 0)
        for at in range(first, last + 1):
            if not any(start <= at <= end for start, end in inner):
                counts[unit_of(code[at][0])] += 1
        found.append(counts)
    return len(code), found


def main():
    packages, kernels, only = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    slang = ctypes.CDLL(str(next(packages.glob("slangpy/libslang-compiler.so*"))))
    nvcc, nvdisasm = (next(packages.glob(f"nvidia/*/bin/{tool}")) for tool in ("nvcc", "nvdisasm"))
    files = sorted(file for file in kernels.glob("*.hlsl") if only in file.name and ".vec4." not in file.name)
    if not files:
        sys.exit(f"error: {kernels} holds no HLSL whose name contains {only}")
    columns = [*UNITS, OTHER]
    print("| kernel | registers | spilled, bytes | loop |", " | ".join(columns), "| all |")
    print("|---" * (5 + len(columns)) + "|")
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            name, cuda, cubin = file.name.removesuffix(".hlsl"), Path(folder) / "kernel.cu", Path(folder) / "kernel.cubin"
            try:
                to_cuda(slang, file, cuda)
                command = [nvcc, "-arch", ARCHITECTURE, "-cubin", "-O3", "-Xptxas", "-v", "-w", "-o", cubin, cuda]
                compiled = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                refused += 1
                said = str(getattr(error, "stderr", None) or error).strip().splitlines()
                print(f"{name}: refused: {said[0] if said else error}", file=sys.stderr)
                continue
            registers = re.search(r"Used (\d+) registers", compiled.stderr)[1]
            spilled = sum(int(bytes) for bytes in re.findall(r"(\d+) bytes spill", compiled.stderr))
            text = subprocess.run([nvdisasm, "-c", cubin], capture_output=True, text=True, check=True).stdout
            instructions, found = loops(text)
            row = f"| {name} | {registers} | {spilled} |"
            print(row, "whole |", " | ".join("" for _ in columns), f"| {instructions} |")
            for number, counts in enumerate(found):
                print("| | | |", number, "|", " | ".join(str(n) for n in counts.values()), f"| {sum(counts.values())} |")
    if refused:
        sys.exit(f"{refused} of {len(files)} kernels were refused")


main()
