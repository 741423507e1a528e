"""Arithmetic, loops and exchanges of compiled programs, against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wgan_jax.config import build
from wgan_jax.cost import flops, hlo, slices
from wgan_jax.cost.hlo import Program
from wgan_jax.devices import mesh

from .conftest import tiny_config


def program(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return Program(jax.jit(function).lower(*arguments).compile().as_text())


def test_a_product_in_a_loop_counts_as_often_as_it_runs():
    loop = program(lambda x, w: lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=7)[0], (3, 5), (5, 5))
    assert loop.flops == 7 * 2 * 3 * 5 * 5
    once = program(lambda x, w: jnp.tanh(x @ w), (3, 5), (5, 5))
    assert once.flops == 2 * 3 * 5 * 5
    assert loop.bytes >= 7 * once.bytes


TEXT = """\
HloModule example, is_scheduled=true

%body (p: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %p = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[4,4]{1,0:T(8,128)S(1)} get-tuple-element(%p), index=1
  %sum = f32[4,4]{1,0:T(8,128)S(1)} all-reduce(%x), channel_id=1, to_apply=%add, metadata={op_name="jit(f)/while"}
  ROOT %t = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)S(1)}) tuple(%i, %sum)
}

%condition (p.1: (s32[], f32[4,4])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)S(1)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  %five = s32[]{:T(128)} constant(5)
  ROOT %less = pred[]{:T(512)} compare(%i.1, %five), direction=LT
}

ENTRY %main (a: f32[4,4], k: f32[3,3,2,8], y: bf16[6,9,9,2]) -> f32[4,4] {
  %a = f32[4,4]{1,0:T(8,128)} parameter(0)
  %k = f32[3,3,2,8]{3,2,1,0} parameter(1)
  %y = bf16[6,9,9,2]{3,2,1,0} parameter(2)
  %zero = s32[]{:T(128)} constant(0)
  %near = f32[4,4]{1,0:T(8,128)S(1)} copy(%a)
  %both = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)S(1)}) tuple(%zero, %near)
  %loop = (s32[]{:T(128)}, f32[4,4]{1,0:T(8,128)S(1)}) while(%both), condition=%condition, body=%body
  %c = f32[6,5,5,8]{3,2,1,0} convolution(%y, %k), window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_01io->b01f
  %e = (f32[2]{0}, bf16[3]{0}) all-reduce-start(%a, %a), to_apply=%add
  %f = (f32[2]{0}, bf16[3]{0}) all-reduce-done(%e)
  ROOT %r = f32[4,4]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""


def test_a_programs_text():
    example = Program(TEXT)
    # Of 5 positions with 3 taps along 9 pixels the outer two lack one tap: 13 pairs.
    assert example.flops == 2 * 13 * 13 * 6 * 8 * 2
    assert example.collectives == [
        hlo.Collective("all-reduce", 8 + 6, 1),
        hlo.Collective("all-reduce", 64, 5),
    ] or example.collectives == [hlo.Collective("all-reduce", 64, 5), hlo.Collective("all-reduce", 8 + 6, 1)]
    # The copy reads 64 bytes, the loop works on the chip, the convolution reads and writes, the start moves 8 twice.
    assert example.bytes == 64 + 2 * 6 * 81 * 2 + 4 * 9 * 16 + 4 * 6 * 25 * 8 + 2 * 8


def test_the_passes_of_a_product():
    """A TPU multiplies float32 in one, three or six passes of bfloat16, and bfloat16 in one."""
    line = "  %r = f32[4,6]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}"
    for kind, precision, passes in [
        ("f32", "", 1),
        ("f32", ", operand_precision={high,high}", 3),
        ("f32", ", operand_precision={highest,highest}", 6),
        ("bf16", ", operand_precision={highest,highest}", 1),
    ]:
        text = (
            f"ENTRY %main (a: {kind}[4,5], b: {kind}[5,6]) -> f32[4,6] {{\n"
            f"  %a = {kind}[4,5]{{1,0}} parameter(0)\n  %b = {kind}[5,6]{{1,0}} parameter(1)\n{line}{precision}\n}}\n"
        )
        assert Program(text).flops == 2 * 4 * 5 * 6
        assert Program(text).bfloat16_flops == passes * 2 * 4 * 5 * 6


@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_and_holes_are_no_arithmetic(dilation):
    size, taps, low = 4, 3, 1
    x = np.zeros(size * dilation + 2 * low)
    x[low : low + size * dilation : dilation] = 1
    expected = int(sum(x[i : i + taps].sum() for i in range((size - 1) * dilation + 1)))
    window = {"stride": "1", "pad": f"{low}_{low}", "lhs_dilate": str(dilation)}
    assert hlo._pairs(size, taps, (size - 1) * dilation + 1, window) == expected


ONE = mesh.Parallel(tuple(jax.devices()[:1]))


@pytest.mark.parametrize("kind", ["gradient_penalty", "r1+r2"])
def test_a_step_has_the_products_that_the_hand_count_needs(kind):
    """Nothing is computed twice. A product with the score's one feature may be written as one of vectors."""
    gan = build(tiny_config(critic__depth=2, critic__width=16, n_critic=3, constraint__kind=kind))
    compiled = slices.lower(gan, ONE, 3, 8).compile()
    needed = flops.of_step(gan, 8, 3)
    assert 0.98 * needed <= Program(compiled.as_text()).flops <= needed


def test_xla_counts_little_more_than_is_needed():
    """Its count has activations, draws and the optimizer too, so the network is wide."""
    gan = build(tiny_config(critic__width=512, generator__width=512, critic__depth=3, generator__depth=3))
    costs = slices.lower(gan, ONE, 1, 256).compile().cost_analysis()
    needed = flops.of_step(gan, 256, 1)
    assert 0.95 * needed <= costs["flops"] <= 1.05 * needed
