"""The device layer below tensors and `engine.cuda` above it: driver, memory, streams, events, errors.

The driver's functions are the emulated ones (`kernels.cuda.emulated`), which take what the real ones take; the cache of memory is
also run over a driver that only counts.
"""
import ctypes
import itertools
import os
import random
import subprocess
import sys
import threading
from collections import deque

import numpy as np
import pytest
from cuda_checks import needs_numba_cuda

import engine
from engine import devices
from kernels.cuda import driver, ptx
from kernels.cuda.compiler import Program
from kernels.cuda.emulated import CAPACITY, Functions
from kernels.cuda.memory import Memory, rounded

# --- the driver ---------------------------------------------------------------------------------------------------------------

KERNEL = """
.version 8.0
.target sm_75
.address_size 64
.visible .entry echo(.param .u64 out, .param .u8 a, .param .u16 b, .param .u32 c, .param .u64 d, .param .f32 e, .param .f64 f)
{
    .reg .b16 %rs<3>; .reg .b32 %r<2>; .reg .b64 %rd<3>; .reg .f32 %f<2>; .reg .f64 %fd<2>;
    ld.param.u64 %rd1, [out];
    ld.param.u8 %rs1, [a];   st.global.u8 [%rd1], %rs1;
    ld.param.u16 %rs2, [b];  st.global.u16 [%rd1+2], %rs2;
    ld.param.u32 %r1, [c];   st.global.u32 [%rd1+4], %r1;
    ld.param.u64 %rd2, [d];  st.global.u64 [%rd1+8], %rd2;
    ld.param.f32 %f1, [e];   st.global.f32 [%rd1+16], %f1;
    ld.param.f64 %fd1, [f];  st.global.f64 [%rd1+24], %fd1;
    ret;
}
"""


class Echo(Program):
    symbol = "echo"


def test_arguments_reach_a_kernel_as_they_are():
    library = driver.Library(Functions(), emulated=True)
    library.bind(0)
    program = Echo("echo", "", ("address", "uint8", "float16", "int32", "uint64", "float32", "float64"), threads=1)
    kernel, out = library.load(program, KERNEL.encode()), library.allocate(32)
    half = int(np.float16(1.5).view(np.uint16))
    kernel.launch(1, (out, 200, half, -7, (1 << 64) - 3, 0.1, -2.5), None)
    made = np.zeros(32, np.uint8)
    library.download(made.ctypes.data, out, 32, None)
    assert made[0] == 200 and made[2:4].view(np.float16)[0] == 1.5 and made[4:8].view(np.int32)[0] == -7
    assert made[8:16].view(np.uint64)[0] == (1 << 64) - 3
    assert made[16:20].view(np.float32)[0] == np.float32(0.1) and made[24:32].view(np.float64)[0] == -2.5
    library.free(out)
    with pytest.raises(ptx.PtxError, match="freed"):            # what the kernel did wrong is said as it is
        kernel.launch(1, (out, 0, 0, 0, 0, 0, 0), None)


ONE = """
.version 8.0
.target sm_75
.address_size 64
.visible .entry echo(.param .u8 first, .param .{word} x, .param .u8 between, .param .u64 out)
{{
    .reg .{word} %x<2>; .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [out];
    ld.param.{word} %x1, [x];
    st.global.{word} [%rd1], %x1;
    ret;
}}
"""


@pytest.mark.parametrize("dtype,word,values", [
    ("int16", "s16", (-(1 << 15), 7)), ("uint16", "u16", (0, (1 << 16) - 1)), ("int32", "s32", (-(1 << 31), (1 << 31) - 1)),
    ("uint32", "u32", (0, (1 << 32) - 1)), ("int64", "s64", (-(1 << 63), (1 << 63) - 1)), ("uint64", "u64", (0, (1 << 64) - 1)),
    ("float32", "f32", (0.1, float("-inf"), float("nan"), -0.0)), ("float64", "f64", (0.1, float("-inf"), float("nan"), -0.0))])
def test_each_dtype_is_packed_where_a_kernel_looks_for_it(dtype, word, values):
    """Between bytes, so that the gaps of natural alignment are there."""
    library = driver.Library(Functions(), emulated=True)
    library.bind(1)
    out = library.allocate(8)
    kernel = library.load(Echo("echo", "", ("uint8", dtype, "bool", "address"), threads=1), ONE.format(word=word).encode())
    for value in values:
        kernel.launch(1, (255, value, True, out), None)
        made = np.zeros(1, dtype)
        library.download(made.ctypes.data, out, made.nbytes, None)
        assert made.tobytes() == np.array([value], dtype).tobytes()


def test_bytes_are_packed_as_they_are():
    library = driver.Library(Functions(), emulated=True)
    library.bind(0)
    out = library.allocate(32)
    kernel = library.load(Echo("echo", "", ("address", "int8", "float16", "int32", "uint64", "float32", "float64"), threads=1),
                          KERNEL.encode())
    made = np.zeros(1, np.int8)
    for value in (-128, -1, 127):
        kernel.launch(1, (out, value, 0, 0, 0, 0.0, 0.0), None)
        library.download(made.ctypes.data, out, 1, None)
        assert made[0] == value


def test_a_thread_binds_its_own_device_and_memory_is_copied_between_devices():
    library = driver.Library(Functions(), emulated=True)
    library.bind(0)
    first = library.allocate(64)
    other = threading.Thread(target=library.bind, args=(1,))
    other.start()
    other.join()
    assert library.functions.memories[0].allocated == 64
    assert library.allocate(64) and library.functions.memories[0].allocated == 128       # still device 0 here
    library.bind(1)
    second = library.allocate(64)
    assert library.functions.memories[1].allocated == 64
    sent, made = np.arange(64, dtype=np.uint8), np.zeros(64, np.uint8)
    library.upload(first, sent.ctypes.data, 64, None)
    library.copy(second, first, 64, None)
    library.download(made.ctypes.data, second, 64, None)
    assert (made == sent).all()
    program = Echo("echo", "", ("uint8", "int32", "bool", "address"), threads=1)
    with pytest.raises(ptx.PtxError, match="out of bounds"):            # a kernel on one device sees no memory of another
        library.load(program, ONE.format(word="s32").encode()).launch(1, (0, 1, False, first), None)
    with pytest.raises(ptx.PtxError, match="not there"):
        library.download(made.ctypes.data, second + 1, 64, None)


def test_codes_of_failure_become_errors():
    library = driver.Library(Functions(), emulated=True)
    with pytest.raises(driver.DriverError, match=r"CUDA error: invalid argument \(in cuDeviceGet\)"):
        library.device(9)
    with pytest.raises(driver.DriverError, match="named symbol not found"):
        library.load(Program("other", "", ()), KERNEL.encode())
    assert library.allocate(CAPACITY + 1) == 0


# --- memory -------------------------------------------------------------------------------------------------------------------

class Counting:
    """A driver that hands out addresses and knows which are out."""

    emulated = False

    def __init__(self, capacity):
        self.capacity, self.out, self.next = capacity, {}, 256

    def bind(self, index):
        self.bound = index

    def allocate(self, nbytes):
        if sum(self.out.values()) + nbytes > self.capacity:
            return 0
        self.next += nbytes
        self.out[self.next - nbytes] = nbytes
        return self.next - nbytes

    def free(self, address):
        del self.out[address]

    def memory_info(self, index):
        return self.capacity - sum(self.out.values()), self.capacity


def test_blocks_are_used_again_on_their_stream_and_never_twice_at_once():
    library, chance = Counting(1 << 40), random.Random(5)
    memory, held = Memory(library, 0), deque()
    for _ in range(2000):
        if held and chance.random() < 0.5:
            held.rotate(chance.randrange(len(held)))
            held.pop()
        else:
            nbytes = chance.choice((0, 1, 500, 513, 5000, 1 << 20, 3 << 20))
            held.append(memory.take(nbytes, chance.choice((None, 7))))
            assert held[-1].nbytes >= nbytes and library.out[held[-1].address] == held[-1].nbytes
        spans = sorted((b.address, b.address + b.nbytes) for b in held)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert memory.allocated == sum(b.nbytes for b in held) <= memory.reserved == sum(library.out.values())
    before = len(library.out)
    address = memory.take(12345, 7).address
    assert memory.take(12345, 7).address == address and memory.take(12345, None).address != address
    held.clear()
    memory.empty()
    assert before and not library.out and memory.reserved == memory.allocated == 0 < memory.most_allocated <= memory.most_reserved


def test_memory_that_another_stream_works_on_is_not_given_out_before_that_is_done():
    class Streams(Counting):
        """Streams whose work ends when the test says so."""

        def __init__(self):
            super().__init__(8192)
            self.ended, self.events = set(), {}

        def make(self, function, flags):
            self.events[len(self.events)] = None
            return len(self.events) - 1

        def call(self, function, event, stream=None):
            if function == "cuEventRecord":
                self.events[event] = stream
            elif function == "cuEventSynchronize":
                self.ended.add(self.events[event])
            else:
                assert function == "cuEventDestroy_v2" and self.events.pop(event) in self.ended

        def done(self, function, event):
            return self.events[event] in self.ended
    library = Streams()
    memory = Memory(library, 0)
    block = memory.take(1000, None)
    address = block.address
    block.used_on(7, "seven")
    block.used_on(8, "eight")
    block.used_on(None, None)           # its own: in order anyway
    del block
    assert memory.allocated == 0 and memory.take(1000, None).address != address
    library.ended.add("seven")
    assert memory.take(1000, None).address != address
    library.ended.add("eight")
    memory._collect()
    found = {b.address for b in [memory.take(1000, None), memory.take(1000, None)]}
    assert address in found and not library.events
    library.ended.clear()
    block = memory.take(4000, None)
    block.used_on(7, "seven")
    del block
    assert memory.take(7000, None).nbytes >= 7000       # rather than give up, it waits for the stream
    assert library.ended == {"seven"}


def test_record_stream(emulated):
    side = engine.cuda.Stream()
    x = engine.ones(4, device="cuda")
    assert x.record_stream(side) is None and list(x._array.owner.users) == [side.cuda_stream]
    x[1:].record_stream(engine.cuda.current_stream())
    assert list(x._array.owner.users) == [side.cuda_stream]
    with pytest.raises(RuntimeError, match="CPU"):
        engine.ones(2).record_stream(side)
    with pytest.raises(TypeError, match="Stream"):
        x.record_stream(3)


@pytest.mark.parametrize("emulated", [False, True])
def test_blocks_may_die_while_the_memory_is_at_work(emulated):
    """A finalizer runs wherever objects are made, also in the middle of `take` and `empty`, in the thread that holds the lock."""
    held = []

    class Interrupting(Counting):
        def __init__(self):
            super().__init__(1 << 20)
            self.emulated = emulated

        def allocate(self, nbytes):
            del held[:2]
            return super().allocate(nbytes)

        def free(self, address):
            del held[:1]
            super().free(address)

    library = Interrupting()
    memory = Memory(library, 0)
    made = [memory.take(512 * (k + 1), None) for k in range(12)]
    held.extend(made[:8])
    del made[:8]
    memory.take(100_000, None)
    memory.empty()
    memory.empty()
    left = sum(b.nbytes for b in made)
    assert memory.allocated == left + sum(b.nbytes for b in held) and not memory.dead
    held.clear()
    memory.empty()
    assert memory.allocated == memory.reserved == left == sum(library.out.values())


def test_threads_share_a_memory():
    memory = Memory(Counting(1 << 30), 0)
    wrong = []

    def work(seed):
        chance, held = random.Random(seed), {}
        for k in range(400):
            block = memory.take(chance.choice((100, 1000, 5000)), None)
            owner[block.address] = owner.get(block.address, 0) + 1
            if owner[block.address] != 1:
                wrong.append(block.address)
            held[k] = block
            if len(held) > 5:
                gone = held.pop(next(iter(held)))
                owner[gone.address] = 0
                del gone
        for block in held.values():
            owner[block.address] = 0

    owner = {}
    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong and memory.allocated == 0 and not memory.dead and memory.reserved == sum(memory.library.out.values()) > 0


def test_rounding_wastes_little():
    for nbytes in (1, 512, 513, 4096, 5000, 1 << 20, (1 << 20) + 1, 123456789):
        assert nbytes <= rounded(nbytes) <= max(512, nbytes * 1.125 + 512)


def test_memory_that_is_not_there():
    memory = Memory(Counting(10 << 20), 0)
    kept, freed = memory.take(4 << 20, None), memory.take(5 << 20, None)
    del freed
    again = memory.take(6 << 20, None)                  # the cache gives way
    with pytest.raises(driver.OutOfMemoryError, match=r"Tried to allocate 8.00 MiB. GPU 0 has a total capacity of 10.00 MiB of "
                                                      r"which 0 bytes is free. 10.00 MiB is held by tensors"):
        memory.take(8 << 20, None)
    assert kept.address != again.address


# --- engine.cuda ----------------------------------------------------------------------------------------------------------------

def test_devices(emulated):
    assert emulated.is_available() and emulated.device_count() == 2 and emulated.current_device() == 0
    assert emulated.get_device_capability() == (7, 5) and "emulated" in emulated.get_device_name(1)
    about = emulated.get_device_properties("cuda:1")
    assert (about.major, about.minor, about.total_memory, about.warp_size) == (7, 5, CAPACITY, 32)
    emulated.set_device(1)
    assert emulated.current_device() == 1 and engine.empty(1, device="cuda").get_device() == 1
    with emulated.device(0):
        assert engine.empty(1, device="cuda").get_device() == 0
    assert emulated.current_device() == 1
    emulated.synchronize()
    emulated.init()
    assert emulated.is_initialized()
    for wrong, error in ((2, RuntimeError), (-1, RuntimeError), ("cpu", ValueError), ("cuda:9", RuntimeError)):
        with pytest.raises(error):
            emulated.set_device(wrong)


def test_memory_figures(emulated):
    before = emulated.memory_allocated()
    x = engine.empty(1000, device="cuda", dtype=engine.float64)
    assert emulated.memory_allocated() - before == 8000 and emulated.memory_reserved() >= 8000
    view = x[10:]
    del x
    assert emulated.memory_allocated() - before == 8000
    del view
    assert emulated.memory_allocated() == before and emulated.max_memory_allocated() >= before + 8000
    emulated.reset_peak_memory_stats()
    assert emulated.max_memory_allocated() == before
    free, total = emulated.mem_get_info()
    assert total == CAPACITY and 0 < free <= total and "held by tensors" in emulated.memory_summary()
    emulated.empty_cache()
    with pytest.raises(emulated.OutOfMemoryError, match=r"Tried to allocate 8\.00 GiB"):
        engine.empty(1 << 30, device="cuda", dtype=engine.float64)
    assert issubclass(engine.OutOfMemoryError, RuntimeError)


@needs_numba_cuda
def test_streams_and_events(emulated):
    own = emulated.Stream()
    assert emulated.current_stream() == emulated.default_stream() != own and own.device == engine.device("cuda:0")
    start, end = emulated.Event(enable_timing=True), emulated.Event(enable_timing=True)
    with emulated.stream(own):
        assert emulated.current_stream() == own
        start.record()
        x = engine.ones(4, device="cuda") + 1
        end.record()
    assert emulated.current_stream() == emulated.default_stream() and x.sum().item() == 8.0
    end.synchronize()
    assert end.query() and own.query() and start.elapsed_time(end) > 0
    own.wait_stream(emulated.default_stream())
    own.synchronize()
    with pytest.raises(ValueError, match="enable_timing"):
        emulated.Event().elapsed_time(end)
    with pytest.raises(ValueError, match="recorded"):
        emulated.Event(enable_timing=True).elapsed_time(end)
    with own:
        assert emulated.current_stream().cuda_stream == own.cuda_stream != 0


def test_the_default_stream_is_that_of_its_device(emulated, monkeypatch):
    """The driver's default stream is a null handle, which means the device that the thread has bound."""
    library, asked = driver.library(), []
    bound = library.functions._bound
    for name in ("cuStreamSynchronize", "cuStreamQuery"):
        monkeypatch.setattr(library.functions, name, lambda stream: asked.append(bound.index) or 0)
    monkeypatch.setattr(library.functions, "cuStreamWaitEvent", lambda stream, event, flags: asked.append(bound.index) or 0)
    event = emulated.default_stream(0).record_event()
    for index in (1, 0):
        stream = emulated.default_stream(index)
        library.bind(1 - index)
        stream.synchronize()
        library.bind(1 - index)
        assert stream.query()
        library.bind(1 - index)
        stream.wait_event(event)
    assert asked == [1, 1, 1, 0, 0, 0]


def test_streams_are_given_out_in_turn(emulated):
    numbers = [emulated.Stream(device=1).cuda_stream for _ in range(70)]
    assert len(set(numbers)) == 32 and numbers[:32] == numbers[32:64] and 0 not in numbers
    assert emulated.Stream(device=1, priority=-1).cuda_stream not in numbers


def test_an_emulated_device_may_say_another_capability(emulated, monkeypatch):
    monkeypatch.setenv("ENGINE_CUDA_CAPABILITY", "9.0")
    library = driver.Library(Functions(), emulated=True)
    assert (library.attribute(0, "major"), library.attribute(0, "minor")) == (9, 0)


def test_no_device_is_said_clearly():
    if devices._cuda_devices()[0]:
        pytest.skip("this machine has a GPU")
    assert not engine.cuda.is_available() and engine.cuda.device_count() == 0
    for call in (lambda: engine.ones(1).cuda(), lambda: engine.ones(1, device="cuda"), engine.cuda.current_device,
                 engine.cuda.synchronize, engine.cuda.Stream):
        with pytest.raises(RuntimeError, match=r"NVIDIA driver|No CUDA GPUs"):
            call()


@needs_numba_cuda
def test_an_emulated_process_finds_what_a_kernel_does_wrong():
    """ENGINE_CUDA=emulate in a process of its own: a kernel of the user's reads beyond its array, and hears of it."""
    code = """
import engine as torch
from kernels.cuda import launch, pointwise as maps, ptx
from kernels.book import BOOK
x = torch.arange(8.0, device="cuda")
print((x.sin() ** 2 + x.cos() ** 2).sum().item())
far = x._array.view._replace(shape=(9,))
try:
    x._array.device.run(launch.pointwise(maps.forward(BOOK["neg"], "float32"), [far], [far]))
except ptx.PtxError as error:
    print(type(error).__name__, error)
"""
    surroundings = {**os.environ, "ENGINE_CUDA": "emulate"}
    found = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=True, timeout=300)
    assert "8.0" in found.stdout and "MemoryFault" in found.stdout and "out of bounds" in found.stdout


def test_handles_are_numbers_of_the_driver():
    library = driver.Library(Functions(), emulated=True)
    stream = library.make("cuStreamCreateWithPriority", 1, 0)
    assert isinstance(stream, ctypes.c_void_p) and stream.value
    library.call("cuStreamDestroy_v2", stream)
    with pytest.raises(driver.DriverError, match="invalid argument"):
        library.call("cuStreamDestroy_v2", stream)


@needs_numba_cuda
@pytest.mark.parametrize("pinned", [False, True])
def test_what_autograd_saves_may_wait_on_the_cpu(emulated, pinned):
    x = engine.tensor([1.0, 2.0, 3.0], device="cuda", requires_grad=True)
    with engine.autograd.graph.save_on_cpu(pin_memory=pinned):
        y = (x * x).exp().sum()
    y.backward()
    assert x.grad.device.type == "cuda"
    np.testing.assert_allclose(x.grad.cpu().numpy(), 2 * np.array([1, 2, 3]) * np.exp([1.0, 4.0, 9.0]), rtol=1e-6)
