"""Printing: every rule of `engine.printing`, with the texts written out as PyTorch 2.13 prints them.

Calls `tensor_repr` and `tensor_format` on NumPy arrays directly; no tensor is made here. How `Tensor` passes its own
state on (device, grad_fn, subclass names) is tested with the tensors.
"""

import math

import numpy as np
import pytest

from engine import printing
from engine.printing import get_printoptions, printoptions, set_printoptions, tensor_format

NAN, INF = math.nan, math.inf
COMPLEX_OF = {"float64": "complex128"}


@pytest.fixture(autouse=True)
def default_options():
    """Begin and end every test with the options that a new process has."""
    set_printoptions(profile="default")
    yield
    set_printoptions(profile="default")


def show(array, default="float32", **more):
    """`tensor_repr` of an array or list (floats become float32), told the dtype rules of a default dtype."""
    array = f32(array) if isinstance(array, list) else array
    name = array.dtype.name
    is_default = name in (default, COMPLEX_OF.get(default, "complex64"))
    return printing.tensor_repr(array, dtype_name=name, is_default_dtype=is_default, **more)


def f32(values):
    return np.array(values, np.float32)


def arange(*shape):
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


# ---- numbers


def test_floats_have_four_digits():
    assert show([1.0, 2.5]) == "tensor([1.0000, 2.5000])"
    assert show([0.1, -0.25, 123.456]) == "tensor([ 1.0000e-01, -2.5000e-01,  1.2346e+02])"
    assert show(f32(3.14159265)) == "tensor(3.1416)"


def test_whole_floats_end_in_a_point():
    assert show([1.0, 2.0, -10.0]) == "tensor([  1.,   2., -10.])"
    assert show(f32(27.0)) == "tensor(27.)"
    assert show([[1.0, 100.0], [-7.0, 3.0]]) == "tensor([[  1., 100.],\n        [ -7.,   3.]])"


def test_zeros_and_negative_zero():
    assert show([0.0, 0.0]) == "tensor([0., 0.])"
    assert show([-0.0, 0.0]) == "tensor([-0., 0.])"
    assert show([-0.0, 1.5]) == "tensor([-0.0000, 1.5000])"
    assert show([-0.0, 3.0]) == "tensor([-0., 3.])"


def test_nonfinite_numbers_do_not_count_for_the_width():
    assert show([NAN, INF, -INF]) == "tensor([nan, inf, -inf])"
    assert show([NAN, 1.0, -INF]) == "tensor([nan, 1., -inf])"
    assert show([NAN, 1.5, -INF]) == "tensor([   nan, 1.5000,   -inf])"
    assert show([NAN, 0.0]) == "tensor([nan, 0.])"
    assert show([INF, 1e-9, -0.0]) == "tensor([       inf, 1.0000e-09, -0.0000e+00])"
    assert show(f32(-INF)) == "tensor(-inf)"


def test_large_ratio_turns_to_scientific():
    assert show([1.0, 1000.0]) == "tensor([   1., 1000.])"
    assert show([1.0, 1001.0]) == "tensor([1.0000e+00, 1.0010e+03])"
    assert show([0.5, 500.0]) == "tensor([  0.5000, 500.0000])"
    assert show([0.5, 501.0]) == "tensor([5.0000e-01, 5.0100e+02])"


def test_large_numbers_turn_to_scientific():
    assert show([1e8]) == "tensor([100000000.])"
    assert show([100000008.0]) == "tensor([1.0000e+08])"
    assert show(np.array([1e300, 1e300])) == "tensor([1.0000e+300, 1.0000e+300], dtype=engine.float64)"
    assert show([0.0, -1e9, NAN]) == "tensor([ 0.0000e+00, -1.0000e+09,         nan])"


def test_small_numbers_turn_to_scientific():
    # Compared in float64: the float32 nearest to 1e-4 lies below it, so it is scientific; the float64 is not.
    assert show([1e-4]) == "tensor([1.0000e-04])"
    assert show(np.array([1e-4])) == "tensor([0.0001], dtype=engine.float64)"
    assert show(np.array([5e-324])) == "tensor([4.9407e-324], dtype=engine.float64)"
    assert show([-1.5e-5, 1.0]) == "tensor([-1.5000e-05,  1.0000e+00])"


def test_sci_mode_overrides_the_choice():
    with printoptions(sci_mode=True):
        assert show([1.0, 2.5]) == "tensor([1.0000e+00, 2.5000e+00])"
        assert show([1.0, 2.0]) == "tensor([1.0000e+00, 2.0000e+00])"
        assert show([0.0, NAN]) == "tensor([0., nan])"
    with printoptions(sci_mode=False):
        assert show([1e-9, 1.5]) == "tensor([0.0000, 1.5000])"
        assert show([1e9, 1.0]) == "tensor([1000000000.,          1.])"


def test_precision():
    with printoptions(precision=2):
        assert show([1.12345, 10.0]) == "tensor([ 1.12, 10.00])"
        assert show([1e-7]) == "tensor([1.00e-07])"
    with printoptions(precision=0):
        assert show([1.5, 2.5]) == "tensor([2, 2])"
    with printoptions(precision=10):
        assert show(np.array([math.pi]), default="float64") == "tensor([3.1415926536])"


def test_float16_and_float64():
    assert show(np.array([1.0, 0.1, 65504.0], np.float16)) == (
        "tensor([1.0000e+00, 9.9976e-02, 6.5504e+04], dtype=engine.float16)"
    )
    assert show(np.array([1.5, -2.5], np.float16)) == "tensor([ 1.5000, -2.5000], dtype=engine.float16)"
    assert show(np.array([1.0, 2.5])) == "tensor([1.0000, 2.5000], dtype=engine.float64)"
    assert show(np.array([1.0, 2.5]), default="float64") == "tensor([1.0000, 2.5000])"
    assert show([1.0, 2.5], default="float64") == "tensor([1.0000, 2.5000], dtype=engine.float32)"


def test_integers_are_aligned():
    assert show(arange(3)) == "tensor([0, 1, 2])"
    assert show(np.array([[1, -20], [300, 4]])) == "tensor([[  1, -20],\n        [300,   4]])"
    assert show(np.array([0, 255], np.uint8)) == "tensor([  0, 255], dtype=engine.uint8)"
    assert show(np.array([-128, 127], np.int8)) == "tensor([-128,  127], dtype=engine.int8)"
    assert show(np.array([1, 2], np.int16)) == "tensor([1, 2], dtype=engine.int16)"
    assert show(np.array([1, 2], np.int32)) == "tensor([1, 2], dtype=engine.int32)"
    assert show(np.array([0, 2**16 - 1], np.uint16)) == "tensor([    0, 65535], dtype=engine.uint16)"
    assert show(np.array([0, 2**32 - 1], np.uint32)) == "tensor([         0, 4294967295], dtype=engine.uint32)"
    assert show(np.array([0, 2**64 - 1], np.uint64)) == (
        "tensor([                   0, 18446744073709551615], dtype=engine.uint64)"
    )
    assert show(np.array([-(2**63), 2**63 - 1])) == "tensor([-9223372036854775808,  9223372036854775807])"
    assert show(np.array(7)) == "tensor(7)"


def test_booleans():
    assert show(np.array(True)) == "tensor(True)"
    assert show(np.array([True, False])) == "tensor([ True, False])"
    assert show(np.array([[True, True]])) == "tensor([[True, True]])"


def test_complex_numbers():
    assert show(np.array([1 + 2j, -3.5 - 4j], np.complex64)) == "tensor([ 1.0000+2.j, -3.5000-4.j])"
    assert show(np.array([1 + 2j, 3 - 10j], np.complex64)) == "tensor([1.+2.j, 3.-10.j])"
    assert show(np.array(1 + 0.5j, np.complex64)) == "tensor(1.+0.5000j)"
    assert show(np.array([complex(0.0, -0.0), complex(-0.0, 0.0)], np.complex64)) == "tensor([0.-0.j, -0.+0.j])"
    assert show(np.array([complex(NAN, 1.0), complex(INF, -INF)], np.complex64)) == "tensor([nan+1.j, inf-infj])"
    assert show(np.array([1e-9 + 1j, 1 + 100.5j], np.complex64)) == "tensor([1.0000e-09+1.0000j, 1.0000e+00+100.5000j])"
    assert show(np.array([1 + 2j])) == "tensor([1.+2.j], dtype=engine.complex128)"


def test_complex_default_follows_the_float_default():
    assert show(np.array([1 + 2j]), default="float64") == "tensor([1.+2.j])"
    assert show(np.array([1 + 2j], np.complex64), default="float64") == "tensor([1.+2.j], dtype=engine.complex64)"
    assert show(np.array([1 + 2j], np.complex64), default="float16") == "tensor([1.+2.j])"


# ---- layout


def test_nested_brackets():
    assert show(arange(2, 3)) == "tensor([[0, 1, 2],\n        [3, 4, 5]])"
    assert show(arange(2, 2, 2)) == "tensor([[[0, 1],\n         [2, 3]],\n\n        [[4, 5],\n         [6, 7]]])"
    assert show(arange(2, 1, 2, 2)) == (
        "tensor([[[[0, 1],\n          [2, 3]]],\n\n\n        [[[4, 5],\n          [6, 7]]]])"
    )
    assert show(arange(1, 1, 1, 1, 1)) == "tensor([[[[[0]]]]])"


def test_views_print_their_own_elements():
    assert show(arange(2, 3).T) == "tensor([[0, 3],\n        [1, 4],\n        [2, 5]])"
    assert show(arange(10)[::-3]) == "tensor([9, 6, 3, 0])"
    assert show(np.broadcast_to(f32([1.5, 2.0]), (2, 2))) == "tensor([[1.5000, 2.0000],\n        [1.5000, 2.0000]])"


def test_rows_break_at_the_line_width():
    assert show(arange(30)) == (
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])"
    )
    assert show(np.arange(40, dtype=np.float32).reshape(2, 20) / 4) == (
        "tensor([[0.0000, 0.2500, 0.5000, 0.7500, 1.0000, 1.2500, 1.5000, 1.7500, 2.0000,\n"
        "         2.2500, 2.5000, 2.7500, 3.0000, 3.2500, 3.5000, 3.7500, 4.0000, 4.2500,\n"
        "         4.5000, 4.7500],\n"
        "        [5.0000, 5.2500, 5.5000, 5.7500, 6.0000, 6.2500, 6.5000, 6.7500, 7.0000,\n"
        "         7.2500, 7.5000, 7.7500, 8.0000, 8.2500, 8.5000, 8.7500, 9.0000, 9.2500,\n"
        "         9.5000, 9.7500]])"
    )
    assert show(np.arange(6) * (1 + 1j) / 3, default="float64") == (
        "tensor([0.0000+0.0000j, 0.3333+0.3333j, 0.6667+0.6667j, 1.0000+1.0000j,\n"
        "        1.3333+1.3333j, 1.6667+1.6667j])"
    )
    with printoptions(linewidth=30):
        assert show(arange(12)) == "tensor([ 0,  1,  2,  3,  4,\n         5,  6,  7,  8,  9,\n        10, 11])"
    with printoptions(linewidth=1):
        assert show(arange(3)) == "tensor([0,\n        1,\n        2])"


def test_longer_prefix_indents_further():
    assert show(np.zeros((2, 2), np.float32), prefix="MyTensor(") == "MyTensor([[0., 0.],\n          [0., 0.]])"
    assert show(arange(30), prefix="MyTensor(") == (
        "MyTensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16,\n"
        "          17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])"
    )


# ---- summaries


def test_threshold_starts_the_summary():
    assert show(arange(1001)) == "tensor([   0,    1,    2,  ...,  998,  999, 1000])"
    assert "..." not in show(arange(1000))
    with printoptions(threshold=5):
        assert show(arange(6)) == "tensor([0, 1, 2, 3, 4, 5])"
        assert show(arange(7)) == "tensor([0, 1, 2,  ..., 4, 5, 6])"
        assert show(arange(5)) == "tensor([0, 1, 2, 3, 4])"


def test_summary_of_many_dimensions():
    assert show(np.zeros((100, 100), np.float32)) == (
        "tensor([[0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        ...,\n"
        "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        [0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        [0., 0., 0.,  ..., 0., 0., 0.]])"
    )
    assert show(arange(2, 600)) == (
        "tensor([[   0,    1,    2,  ...,  597,  598,  599],\n        [ 600,  601,  602,  ..., 1197, 1198, 1199]])"
    )
    assert show(arange(600, 2)) == (
        "tensor([[   0,    1],\n"
        "        [   2,    3],\n"
        "        [   4,    5],\n"
        "        ...,\n"
        "        [1194, 1195],\n"
        "        [1196, 1197],\n"
        "        [1198, 1199]])"
    )
    with printoptions(threshold=10, edgeitems=1):
        assert show(arange(3, 3, 3)) == (
            "tensor([[[ 0,  ...,  2],\n"
            "         ...,\n"
            "         [ 6,  ...,  8]],\n\n"
            "        ...,\n\n"
            "        [[18,  ..., 20],\n"
            "         ...,\n"
            "         [24,  ..., 26]]])"
        )
        assert show(arange(2, 3, 3)) == (
            "tensor([[[ 0,  ...,  2],\n"
            "         ...,\n"
            "         [ 6,  ...,  8]],\n\n"
            "        [[ 9,  ..., 11],\n"
            "         ...,\n"
            "         [15,  ..., 17]]])"
        )


def test_summary_looks_at_the_shown_elements_only():
    hidden = np.ones(2000, np.float32)
    hidden[1000] = 1e-9
    assert show(hidden) == "tensor([1., 1., 1.,  ..., 1., 1., 1.])"
    hidden[1] = 0.5
    assert show(hidden) == "tensor([1.0000, 0.5000, 1.0000,  ..., 1.0000, 1.0000, 1.0000])"
    wide = np.ones((50, 50), np.int64)
    wide[25, 0] = wide[0, 25] = 10**9
    assert show(wide) == (
        "tensor([[1, 1, 1,  ..., 1, 1, 1],\n"
        "        [1, 1, 1,  ..., 1, 1, 1],\n"
        "        [1, 1, 1,  ..., 1, 1, 1],\n"
        "        ...,\n"
        "        [1, 1, 1,  ..., 1, 1, 1],\n"
        "        [1, 1, 1,  ..., 1, 1, 1],\n"
        "        [1, 1, 1,  ..., 1, 1, 1]])"
    )


def test_edgeitems():
    with printoptions(threshold=5, edgeitems=2):
        assert show(arange(4, 5)) == (
            "tensor([[ 0,  1,  ...,  3,  4],\n"
            "        [ 5,  6,  ...,  8,  9],\n"
            "        [10, 11,  ..., 13, 14],\n"
            "        [15, 16,  ..., 18, 19]])"
        )
        assert show(arange(3, 5)) == (
            "tensor([[ 0,  1,  ...,  3,  4],\n        [ 5,  6,  ...,  8,  9],\n        [10, 11,  ..., 13, 14]])"
        )
    with printoptions(edgeitems=0):
        assert show(arange(2000)) == "tensor([...], size=(2000,))"
        assert show(arange(50, 50)) == "tensor([...], size=(50, 50))"
        assert show(arange(3)) == "tensor([0, 1, 2], size=(3,))"
        assert show(f32(1.0)) == "tensor(1., size=())"


def test_scalar_is_never_summarised():
    with printoptions(threshold=0):
        assert show(f32(1.5)) == "tensor(1.5000)"
        assert show([1.5]) == "tensor([1.5000])"
    with printoptions(threshold=0, edgeitems=0):
        assert show(f32(1.5)) == "tensor(1.5000, size=())"


def test_huge_array_is_not_converted():
    # 10^15 elements on one byte: only a copy of the corners can be printed.
    huge = np.broadcast_to(np.uint8(7), (10**5, 10**5, 10**5))
    with printoptions(edgeitems=1):
        assert show(huge) == (
            "tensor([[[7,  ..., 7],\n"
            "         ...,\n"
            "         [7,  ..., 7]],\n\n"
            "        ...,\n\n"
            "        [[7,  ..., 7],\n"
            "         ...,\n"
            "         [7,  ..., 7]]], dtype=engine.uint8)"
        )


# ---- suffixes


def test_empty_tensors():
    assert show(f32([])) == "tensor([])"
    assert show(np.zeros((0, 3), np.float32)) == "tensor([], size=(0, 3))"
    assert show(np.zeros((2, 0), np.int64)) == "tensor([], size=(2, 0), dtype=engine.int64)"
    assert show(np.zeros(0, bool)) == "tensor([], dtype=engine.bool)"
    assert show(np.zeros(0, np.complex64)) == "tensor([], dtype=engine.complex64)"
    assert show(np.zeros(0), default="float64") == "tensor([])"
    assert show(np.zeros((1, 0)), requires_grad=True) == (
        "tensor([], size=(1, 0), dtype=engine.float64, requires_grad=True)"
    )


def test_gradients():
    assert show([1.0], requires_grad=True) == "tensor([1.], requires_grad=True)"
    assert show([[1.0, 1.0], [1.0, 1.0]], requires_grad=True) == (
        "tensor([[1., 1.],\n        [1., 1.]], requires_grad=True)"
    )
    assert show([1.5], requires_grad=True, grad_fn_name="CloneBackward0") == (
        "tensor([1.5000], grad_fn=<CloneBackward0>)"
    )
    assert show(np.array(1.5), requires_grad=True, grad_fn_name="CloneBackward0") == (
        "tensor(1.5000, dtype=engine.float64, grad_fn=<CloneBackward0>)"
    )


def test_suffixes_break_at_the_line_width():
    assert show(np.arange(14) / 2, requires_grad=True) == (
        "tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000, 2.5000, 3.0000, 3.5000, 4.0000,\n"
        "        4.5000, 5.0000, 5.5000, 6.0000, 6.5000], dtype=engine.float64,\n"
        "       requires_grad=True)"
    )
    assert show(np.arange(9) / 2, requires_grad=True) == (
        "tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000, 2.5000, 3.0000, 3.5000, 4.0000],\n"
        "       dtype=engine.float64, requires_grad=True)"
    )
    with printoptions(linewidth=20):
        assert show(np.zeros((2, 0), np.float16), requires_grad=True) == (
            "tensor([],\n       size=(2, 0),\n       dtype=engine.float16,\n       requires_grad=True)"
        )
        assert show([1.0], requires_grad=True) == "tensor([1.],\n       requires_grad=True)"
    with printoptions(linewidth=33):
        assert show([1.0], requires_grad=True) == "tensor([1.], requires_grad=True)"
    with printoptions(linewidth=32):
        assert show([1.0], requires_grad=True) == "tensor([1.],\n       requires_grad=True)"


def test_lines_break_where_pytorch_breaks_them():
    # By its real width "engine" would send the node to a second line; the width that "torch" would have counts.
    array = np.zeros((1, 0, 1, 0, 3), np.float16)
    assert show(array, requires_grad=True, grad_fn_name="CloneBackward0") == (
        "tensor([], size=(1, 0, 1, 0, 3), dtype=engine.float16, grad_fn=<CloneBackward0>)"
    )
    assert show(array, requires_grad=True, grad_fn_name="CloneBackward0", module="torch") == (
        "tensor([], size=(1, 0, 1, 0, 3), dtype=torch.float16, grad_fn=<CloneBackward0>)"
    )


def test_device():
    assert show([1.0], device="cuda:0") == "tensor([1.], device='cuda:0')"
    assert show(np.zeros((0, 2)), device="cuda:1", requires_grad=True) == (
        "tensor([], device='cuda:1', size=(0, 2), dtype=engine.float64,\n       requires_grad=True)"
    )


# ---- options


def test_options_begin_with_pytorchs_defaults():
    defaults = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}
    assert get_printoptions() == defaults == vars(printing.PrintOptions())


def test_profiles():
    set_printoptions(profile="short")
    assert get_printoptions() == {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80, "sci_mode": None}
    set_printoptions(profile="full", precision=6)
    assert get_printoptions() == {"precision": 6, "threshold": INF, "edgeitems": 3, "linewidth": 80, "sci_mode": None}
    assert "..." not in show(arange(1001))
    set_printoptions(profile="no such profile", linewidth=60)
    assert get_printoptions() == {"precision": 6, "threshold": INF, "edgeitems": 3, "linewidth": 60, "sci_mode": None}


def test_sci_mode_lasts_until_the_next_call():
    set_printoptions(sci_mode=True)
    assert get_printoptions()["sci_mode"] is True
    set_printoptions(precision=3)
    assert get_printoptions()["sci_mode"] is None and get_printoptions()["precision"] == 3


def test_context_restores_after_an_error():
    set_printoptions(sci_mode=False, edgeitems=5)
    before = get_printoptions()
    with pytest.raises(KeyError), printoptions(profile="short", sci_mode=True):
        assert get_printoptions()["precision"] == 2 and get_printoptions()["sci_mode"] is True
        raise KeyError
    assert get_printoptions() == before


def test_unknown_option():
    with pytest.raises(TypeError, match="unexpected keyword argument 'digits'"):
        set_printoptions(digits=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'digits'"), printoptions(digits=3):
        pass


# ---- format


def test_format_of_a_scalar():
    assert tensor_format(f32(1.5), "") == "1.5"
    assert tensor_format(f32(0.1), ".3f") == "0.100"
    assert tensor_format(f32(0.1), "") == "0.10000000149011612"
    assert tensor_format(np.array(42), ">5d") == "   42"
    assert tensor_format(np.array(True), "") == "True"
    assert tensor_format(np.array(1 + 2j), ".1f") == "1.0+2.0j"
    with pytest.raises(ValueError, match="Unknown format code 'd' for object of type 'float'"):
        tensor_format(f32(1.5), "d")


def test_format_of_a_tensor_with_dimensions():
    assert tensor_format(f32([1.5]), "") is None
    with pytest.raises(TypeError, match=r"unsupported format string passed to Tensor\.__format__"):
        tensor_format(f32([1.5]), ".3f")
    with pytest.raises(TypeError, match=r"unsupported format string passed to MyTensor\.__format__"):
        tensor_format(f32([[1.5]]), "d", "MyTensor")
