"""Runs a guest as the contract says, in a plain engine: an item on stdin, the result on stdout."""

import ctypes
import pathlib
import tempfile
import time

import wasmtime

BUILD_FUEL = 10**15


class Guest:
    """A compiled program, initialised if it has an initialiser."""

    def __init__(self, wasm: pathlib.Path, data: pathlib.Path | None = None):
        config = wasmtime.Config()
        config.consume_fuel = True
        config.wasm_relaxed_simd = False
        self.engine = wasmtime.Engine(config)
        self.module = wasmtime.Module(self.engine, wasm.read_bytes())
        self.linker = wasmtime.Linker(self.engine)
        self.linker.define_wasi()
        self.data = data
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="guest-"))
        self.snapshot = None
        if any(export.name == "wizer.initialize" for export in self.module.exports):
            store, instance = self._instance(b"", ())
            instance.exports(store)["wizer.initialize"](store)
            memory = instance.exports(store)["memory"]
            # No global but the stack pointer changes, and it is back where it was: memory is all there is to keep.
            self.snapshot = ctypes.string_at(memory.data_ptr(store), memory.data_len(store))

    def _instance(self, item: bytes, args):
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["guest", *args]
        (self.scratch / "item").write_bytes(item)
        wasi.stdin_file = str(self.scratch / "item")
        wasi.stdout_file = str(self.scratch / "out")
        wasi.stderr_file = str(self.scratch / "err")
        if self.data is not None:
            wasi.preopen_dir(str(self.data), "/data")
        store = wasmtime.Store(self.engine)
        store.set_fuel(BUILD_FUEL)
        store.set_wasi(wasi)
        return store, self.linker.instantiate(store, self.module)

    def run(self, item: bytes, *args: str):
        """Exit code, stdout, stderr, fuel and CPU seconds of one item in a fresh instance."""
        store, instance = self._instance(item, args)
        exports = instance.exports(store)
        if self.snapshot is not None:
            memory = exports["memory"]
            missing = len(self.snapshot) - memory.data_len(store)
            memory.grow(store, missing // 65536)
            ctypes.memmove(memory.data_ptr(store), self.snapshot, len(self.snapshot))
        before = store.get_fuel()
        started = time.process_time()
        try:
            exports["_start"](store)
            code = 0
        except wasmtime.ExitTrap as end:
            code = end.code
        seconds = time.process_time() - started
        fuel = before - store.get_fuel()
        out, err = (self.scratch / "out").read_bytes(), (self.scratch / "err").read_text()
        return code, out, err, fuel, seconds
