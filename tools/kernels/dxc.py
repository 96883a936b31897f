#!/usr/bin/env python3
"""Compiles HLSL with DXC, as DX12 does: dxc.py LIBDXCOMPILER FOLDER.

Every FOLDER/*.ENTRY.hlsl is compiled for shader model 6.0, except for the targets `plain` and `native`, which are made
of the same parts as the others. The exit status is 1 if one is refused, and 3 if the library does not load here. The
library is called directly, since no registry has the command for Linux. DXIL is not validated: the validator is part of
Windows.
"""

import ctypes
import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

UTF8 = 65001


def guid(text):
    return (ctypes.c_ubyte * 16)(*uuid.UUID(text).bytes_le)


CLASS_COMPILER = guid("73e22d93-e6ce-47f3-b5bf-f0664f39c1b0")
COMPILER = guid("228b4687-5a6a-4730-900c-9702b2203f54")
RESULT = guid("58346cda-dde7-4497-9461-6f87af5e0659")

# Places in the tables of virtual functions. Outside Windows, DXC's IUnknown has a virtual destructor after its three
# functions, which takes two places.
RELEASE = 2
FIRST = 5
COMPILE = FIRST
GET_STATUS, GET_ERRORS = FIRST, FIRST + 2
GET_POINTER, GET_SIZE = FIRST, FIRST + 1


class Buffer(ctypes.Structure):
    """DxcBuffer: a text, its size and its encoding."""

    _fields_ = [("text", ctypes.c_char_p), ("size", ctypes.c_size_t), ("encoding", ctypes.c_uint)]


def call(this, place, result, *arguments):
    """Calls a virtual function of a COM object. Integers are passed as they are, everything else as a pointer."""
    table = ctypes.cast(this, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
    kinds = [ctypes.c_uint if isinstance(argument, int) else ctypes.c_void_p for argument in arguments]
    return ctypes.CFUNCTYPE(result, ctypes.c_void_p, *kinds)(table[place])(this, *arguments)


def text_of(blob):
    if not blob.value:
        return ""
    size = call(blob, GET_SIZE, ctypes.c_size_t)
    text = ctypes.string_at(call(blob, GET_POINTER, ctypes.c_void_p), size) if size else b""
    call(blob, RELEASE, ctypes.c_ulong)
    return text.decode("utf-8", "replace").strip("\0\n ")


def compile_file(library, path):
    """Returns the errors of a file, or None."""
    entry = path.name.split(".")[-2]
    compiler = ctypes.c_void_p()
    status = library.DxcCreateInstance(CLASS_COMPILER, COMPILER, ctypes.byref(compiler))
    if status:
        return f"DXC cannot be created: {status:#x}"
    words = ["-E", entry, "-T", "cs_6_0", "-HV", "2018", "-O3", "-Vd"]
    # Wide characters have four bytes here.
    wide = [ctypes.c_wchar_p(word) for word in words]
    arguments = (ctypes.c_wchar_p * len(words))(*wide)
    source = path.read_bytes()
    buffer = Buffer(source, len(source), UTF8)
    result, errors, status = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
    pointers = [ctypes.byref(buffer), arguments, len(words), None, RESULT, ctypes.byref(result)]
    refused = call(compiler, COMPILE, ctypes.c_int, *pointers)
    call(compiler, RELEASE, ctypes.c_ulong)
    if refused or not result.value:
        return f"DXC failed: {refused & 0xFFFFFFFF:#x}"
    call(result, GET_STATUS, ctypes.c_int, ctypes.byref(status))
    call(result, GET_ERRORS, ctypes.c_int, ctypes.byref(errors))
    message = text_of(errors)
    call(result, RELEASE, ctypes.c_ulong)
    return (message or "it is refused without a message") if status.value else None


def main(library, folder):
    files = sorted(path for path in Path(folder).glob("*.hlsl") if not {".plain", ".native"} & set(path.suffixes))
    if not files:
        sys.exit(f"error: {folder} holds no HLSL")
    try:
        dxc = ctypes.CDLL(os.path.abspath(library))
    except OSError as error:
        print(f"error: DXC does not load here: {error}", file=sys.stderr)
        sys.exit(3)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(zip(files, pool.map(lambda path: compile_file(dxc, path), files)))
    failed = [(path, error) for path, error in results if error is not None]
    for path, error in failed:
        print(f"{path.name}: {error}", file=sys.stderr)
    print(f"DXC: {len(files)} entry points, {len(failed)} refused")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
