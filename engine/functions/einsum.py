"""einsum: sums of products written as an equation, for example "bij,bjk->bik".

The equation is read into one list of labels for each operand; repeated labels become diagonals, sizes of 1 broadcast, and
pairs of operands are contracted, cheapest first, into one batched matrix product each. All of it is views and
differentiable operators. Called by users only.
"""
from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from kernels.book import BOOK

from ..errors import ShapeError
from ..tensor import Tensor
from .contract import permuted
from .matmul import check_tensors, matmul, promoted, reshaped
from .registry import public

Labels = tuple[int, ...]        # 0 to 51: A to Z, a to z; from 52 on: the dimensions of the ellipsis
DOTS = -1               # the ellipsis itself, before its dimensions are known
LETTERS = 52


@public(method=False)
def einsum(*arguments: Any) -> Tensor:
    """`einsum(equation, *operands)` or `einsum(operand, labels, operand, labels, ..., [labels of the result])`.

    The equation names a letter for each dimension, "..." for any number of them; letters that are not in the result are
    summed. Without "->" the result has the ellipsis and then, in alphabetical order, the letters that occur once. One dtype
    where a product is summed. Errors: RuntimeError for an equation that does not fit, ValueError for a malformed call.
    """
    operands, given, output = _read(arguments)
    kind = operands[0]._kind if operands[0].__class__ is Tensor else None
    for t in operands:
        if t.__class__ is not Tensor or t._kind is not kind:
            check_tensors("einsum", **{f"operands[{k}]": t for k, t in enumerate(operands)})
            break
    labels, result, plain = _plan(given, output, tuple([t._array.shape for t in operands]))
    terms = list(zip(operands, labels, strict=True))
    if not plain:
        terms = _broadcast([_diagonals(t, own, k) for k, (t, own) in enumerate(terms)])
    while len(terms) > 1:
        i, j = _cheapest(terms, result)
        b, a = terms.pop(j), terms.pop(i)
        terms.insert(i, _pair(a, b, _kept(terms, result)))
    answer = _last(*terms[0], result)
    return BOOK["alias"](answer) if any(answer is t for t in operands) else answer


@functools.lru_cache(maxsize=256)
def _plan(given: tuple[Labels, ...], output: Labels | None, shapes: tuple) -> tuple[list[Labels], Labels, bool]:
    """Labels of every dimension and of the result, checked; and whether operands can be taken as they are.

    That is where no label is repeated in one operand, and none has a size of 1 in one and more in another.
    """
    labels, dots = _match(shapes, given)
    result = _output(given, output, dots)
    for label in result:
        if not any(label in own for own in labels) and label < LETTERS:
            raise RuntimeError(f"einsum(): output subscript {_letter(label)} does not appear in the equation for any input "
                               "operand")
    sizes: dict[int, int] = {}
    plain = all(len(set(own)) == len(own) for own in labels) and all(
        sizes.setdefault(label, n) == n for own, shape in zip(labels, shapes, strict=True)
        for label, n in zip(own, shape, strict=True))
    return labels, result, plain


# --- reading ----------------------------------------------------------------------------------------------------------

def _letter(label: int) -> str:
    return chr(ord("A") + label) if label < 26 else chr(ord("a") + label - 26)


def _read(arguments) -> tuple[list, tuple[Labels, ...], Labels | None]:
    """Operands, their labels, and the labels of the result if they are given."""
    if not arguments or (isinstance(arguments[0], str) and len(arguments) < 2):
        raise ValueError("einsum(): must specify the equation string and at least one operand, or at least one operand and its "
                         "subscripts list")
    if isinstance(arguments[0], str):
        operands = list(arguments[1:])
        if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = list(operands[0])
        given, output = _equation(arguments[0])
        if len(given) != len(operands):
            fewer = "fewer" if len(operands) < len(given) else "more"
            raise RuntimeError(f"einsum(): {fewer} operands were provided than specified in the equation "
                               f"({len(operands)} for {len(given)})")
    else:
        operands, given = list(arguments[:-1:2]), tuple([_sublist(s) for s in arguments[1::2]])
        output = _sublist(arguments[-1]) if len(arguments) % 2 else None
    return operands, given, output


@functools.lru_cache(maxsize=256)
def _equation(text: str) -> tuple[tuple[Labels, ...], Labels | None]:
    """The labels of the operands and of the result, None where there is no arrow."""
    left, arrow, right = text.partition("->")
    given, position = [], 0
    for k, part in enumerate(left.split(",")):
        given.append(_parse(part, position, f"operand {k} "))
        position += len(part) + 1
    return tuple(given), _parse(right, len(left) + 2, "output ") if arrow else None


def _parse(text: str, position: int, what: str) -> Labels:
    found: list[int] = []
    k = 0
    while k < len(text):
        c = text[k]
        if c == ".":
            if DOTS in found:
                known = "but an ellipsis (...) was" if what == "output " else "for which an ellipsis was"
                raise RuntimeError(f"einsum(): found '.' for {what}{known} already found")
            if text[k:k + 3] != "...":
                raise RuntimeError(f"einsum(): found '.' for {what}that is not part of any ellipsis")
            found.append(DOTS)
            k += 2
        elif c.isascii() and c.isalpha():
            found.append(ord(c) - ord("A") if c.isupper() else ord(c) - ord("a") + 26)
        elif c != " ":
            raise RuntimeError(f"einsum(): invalid subscript given at index {position + k} in the equation string, subscripts "
                               "must be in [a-zA-Z]")
        k += 1
    return tuple(found)


def _sublist(labels: Sequence) -> Labels:
    if not isinstance(labels, (list, tuple)):
        raise ValueError(f"einsum(): subscripts must be a list of int, not {type(labels).__name__}")
    found = []
    for label in labels:
        if label is Ellipsis:
            found.append(DOTS)
        elif not hasattr(label, "__index__") or not 0 <= label.__index__() < LETTERS:
            raise ValueError(f"einsum(): subscript in subscript list is not within the valid range [0, {LETTERS})")
        else:
            found.append(label.__index__())
    return tuple(found)


def _match(shapes: Sequence[tuple[int, ...]], given: Sequence[Labels]) -> tuple[list[Labels], int]:
    """One label for each dimension; ellipses become labels of their own, aligned at the right. Also the longest ellipsis."""
    lengths = []
    for k, (shape, own) in enumerate(zip(shapes, given, strict=True)):
        named, ndim = len(own) - (DOTS in own), len(shape)
        if DOTS not in own and named != ndim:
            raise ShapeError(f"einsum(): the number of subscripts in the equation ({named}) does not match the number of "
                             f"dimensions ({ndim}) for operand {k} and no ellipsis was given")
        if named > ndim:
            raise ShapeError(f"einsum(): the number of subscripts in the equation ({named}) is more than the number of "
                             f"dimensions ({ndim}) for operand {k}")
        lengths.append(ndim - named if DOTS in own else 0)
    dots = max(lengths)

    def spread(own, length):
        return tuple([d for label in own for d in (range(LETTERS + dots - length, LETTERS + dots) if label == DOTS else (label,))])
    return [spread(own, n) for own, n in zip(given, lengths, strict=True)], dots


def _output(given: Sequence[Labels], output: Labels | None, dots: int) -> Labels:
    """The labels of the result: as given, or the ellipsis and what occurs once, in order."""
    ellipsis = list(range(LETTERS, LETTERS + dots))
    if output is None:
        every = [label for own in given for label in own if label != DOTS]
        return (*ellipsis, *sorted(label for label in set(every) if every.count(label) == 1))
    for label in output:
        if output.count(label) > 1:
            raise RuntimeError(f"einsum(): output subscript {_letter(label)} appears more than once in the output")
    return tuple([d for label in output for d in (ellipsis if label == DOTS else (label,))])


# --- preparing operands -----------------------------------------------------------------------------------------------

Term = tuple[Tensor, Labels]


def _diagonals(t: Tensor, labels: Labels, operand: int) -> Term:
    """An operand with each label once: a repeated one walks along a diagonal."""
    while len(set(labels)) < len(labels):
        j = next(d for d, label in enumerate(labels) if label in labels[:d])
        i = labels.index(labels[j])
        n, m = t._array.shape[i], t._array.shape[j]
        if n != m:
            raise ShapeError(f"einsum(): subscript {_letter(labels[i])} is repeated for operand {operand} but the sizes don't "
                             f"match, {m} != {n}")
        t = t.diagonal(0, i, j)
        labels = (*[label for d, label in enumerate(labels) if d not in (i, j)], labels[i])
    return t, labels


def _broadcast(terms: list[Term]) -> list[Term]:
    """Drop dimensions of size 1 whose label is larger elsewhere; RuntimeError where sizes differ."""
    sizes: dict[int, int] = {}
    for k, (t, labels) in enumerate(terms):
        for label, n in zip(labels, t._array.shape, strict=True):
            seen = sizes.setdefault(label, n)
            if seen == 1:
                sizes[label] = n
            elif n not in (1, seen):
                name = f"subscript {_letter(label)}" if label < LETTERS else "a dimension of the ellipsis"
                raise ShapeError(f"einsum(): {name} has size {n} for operand {k} which does not broadcast with previously seen "
                                 f"size {seen}")
    ready = []
    for t, labels in terms:
        single = tuple(d for d, (label, n) in enumerate(zip(labels, t._array.shape, strict=True)) if n != sizes[label])
        ready.append((BOOK["squeeze"](t, dims=single), tuple([label for d, label in enumerate(labels) if d not in single]))
                     if single else (t, labels))
    return ready


# --- contracting ------------------------------------------------------------------------------------------------------

def _kept(others: list[Term], result: Labels) -> set[int]:
    return set(result).union(*(labels for _, labels in others))


def _cheapest(terms: list[Term], result: Labels) -> tuple[int, int]:
    """The pair whose contraction frees most memory; among equals the one of least work, then the first."""
    if len(terms) == 2:
        return 0, 1

    def cost(pair):
        i, j = pair
        (a, la), (b, lb) = terms[i], terms[j]
        sizes = dict(zip(la + lb, a._array.shape + b._array.shape, strict=True))
        kept = _kept([t for k, t in enumerate(terms) if k not in pair], result)
        size = math.prod(n for label, n in sizes.items() if label in kept)
        return size - a._array.size - b._array.size, math.prod(sizes.values())
    return min(itertools.combinations(range(len(terms)), 2), key=cost)


def _summed(t: Tensor, labels: Labels, kept) -> Term:
    """The operand summed over labels that nobody else needs."""
    dims = tuple(d for d, label in enumerate(labels) if label not in kept)
    if not dims:
        return t, labels
    return BOOK["sum"](t, dims=dims, keepdim=False), tuple([label for label in labels if label in kept])


def _pair(a: Term, b: Term, kept: set[int]) -> Term:
    """Contract two operands; the result's labels are the shared ones that stay, then the first's, then the second's."""
    (x, lx), (y, ly) = _summed(*a, kept.union(b[1])), _summed(*b, kept.union(a[1]))
    how = _contraction(lx, ly, x._array.shape, y._array.shape, frozenset(kept))
    batch, left, right, over = how.labels
    vectors = batch and not left and not right and x._kind.dtype.category >= 2     # sums of integers would change dtype
    if not over or vectors:
        labels = batch + left + right + over
        product = BOOK["mul"](_spread(x, lx, labels), _spread(y, ly, labels))
        dims = tuple(range(len(labels) - len(over), len(labels)))
        return (BOOK["sum"](product, dims=dims, keepdim=False) if over else product), batch + left + right
    if x._kind is not y._kind and (x._kind.dtype.category, y._kind.dtype.category) == (1, 1):
        x, y = promoted(x, y)                   # a sum of integers is int64
    product = matmul(_arranged(x, how.rows, how.row_shape), _arranged(y, how.columns, how.column_shape))
    if product._array.shape != how.shape:
        product = BOOK["view"].apply(product, shape=how.shape)
    return product, batch + left + right


class _Contraction(NamedTuple):
    """How two operands become factors of a matrix product: their dimensions' order, the factors' and the result's shape."""

    labels: tuple[Labels, Labels, Labels, Labels]       # shared and kept, of the first, of the second, summed
    rows: tuple[int, ...]
    row_shape: tuple[int, ...]
    columns: tuple[int, ...]
    column_shape: tuple[int, ...]
    shape: tuple[int, ...]


@functools.lru_cache(maxsize=256)
def _contraction(lx: Labels, ly: Labels, x_shape: tuple, y_shape: tuple, kept: frozenset) -> _Contraction:
    shared = [label for label in lx if label in ly]
    batch, over = tuple([label for label in shared if label in kept]), tuple([label for label in shared if label not in kept])
    left, right = tuple([label for label in lx if label not in shared]), tuple([label for label in ly if label not in shared])
    sizes = dict(zip(lx + ly, x_shape + y_shape, strict=True))
    b, n, m, k = (tuple([sizes[label] for label in group]) for group in (batch, left, right, over))
    lead = (math.prod(b),) if batch else ()
    return _Contraction((batch, left, right, over),
                        tuple([lx.index(label) for label in batch + left + over]), (*lead, math.prod(n), math.prod(k)),
                        tuple([ly.index(label) for label in batch + over + right]), (*lead, math.prod(k), math.prod(m)), b + n + m)


def _arranged(t: Tensor, order: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """The operand with its dimensions in an order, in a shape; itself where nothing changes."""
    t = permuted(t, order)
    return t if t._array.shape == shape else reshaped(t, shape)


def _spread(t: Tensor, own: Labels, labels: Labels) -> Tensor:
    """The operand with its dimensions in the order of `labels`, size 1 where it has none."""
    t = permuted(t, tuple(own.index(label) for label in labels if label in own))
    sizes = iter(t._array.shape)
    return reshaped(t, tuple(next(sizes) if label in own else 1 for label in labels)) if len(own) < len(labels) else t


def _last(t: Tensor, labels: Labels, result: Labels) -> Tensor:
    """Sum what is not in the result and bring the rest into its order."""
    t, labels = _summed(t, labels, result)
    return permuted(t, tuple(labels.index(label) for label in result))
