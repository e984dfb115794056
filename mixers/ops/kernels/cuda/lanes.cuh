// Who a thread is, in its block and in its warp.

#pragma once
#include "instructions.cuh"

constexpr word EVERY_LANE = 0xffffffff;

INLINE int lane() { return threadIdx.x % 32; }
INLINE int warp() { return threadIdx.x / 32; }

// Of a tensor core's operands.
INLINE int quarter() { return lane() % 4; }
INLINE int eighth() { return lane() / 4; }
