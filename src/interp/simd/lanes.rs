//! SIMD lanes: the interpretation of [`Real`](crate::lang::Real) behind the CPU backend. One lane is one rollout.

use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, DivAssign, Mul, MulAssign, Neg, Not, Sub, SubAssign};

use pulp::Simd;

use super::gather;
use super::instructions::by_instructions;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use super::instructions::cast;
use super::mul_wide::mul_wide;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use super::philox;
use crate::lang::math::{Vector, floor, index, relu, select_by_sign};
use crate::lang::philox_row::PhiloxRow;
use crate::lang::register::Register;
use crate::lang::{Mask, sealed};

/// Returns the token that proves that the instructions of `S` are available.
///
/// # Safety
///
/// The processor must support them.
#[inline(always)]
unsafe fn token<S: Simd>() -> S {
    const { assert!(size_of::<S>() == 0, "SIMD tokens carry no data") };
    // SAFETY: `S` is zero-sized, so there are no bytes to be invalid; the caller guarantees that its instructions are
    // available.
    unsafe { std::mem::transmute_copy(&()) }
}

/// Whether the processor supports the instructions of `S`, among the sets that this crate distinguishes.
#[inline]
fn available<S: Simd>() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        use std::any::TypeId;
        if TypeId::of::<S>() == TypeId::of::<pulp::x86::V4>() {
            return pulp::x86::V4::is_available();
        }
        if TypeId::of::<S>() == TypeId::of::<pulp::x86::V3>() {
            return pulp::x86::V3::is_available();
        }
    }
    true
}

/// The number of lanes of the widest registers (AVX-512). On every processor, sums over rows are kept in this many
/// partial sums.
pub(crate) const WIDEST: usize = 16;

/// One register of `S`.
///
/// It is used only where the instructions of `S` are available: in jobs run by [`Isa`](crate::interp::simd::isa::Isa),
/// which receive a `pulp` token. The type is private to the crate, and generic model code handles it in such jobs only,
/// so a lane need not carry its token. (Debug builds check availability where lanes are loaded or counted.)
pub(crate) struct Lanes<S: Simd>(pub(crate) S::f32s);

/// The result of comparing two [`Lanes`].
pub(crate) struct LaneMask<S: Simd>(S::m32s);

impl<S: Simd> Lanes<S> {
    /// Returns the token for methods of lanes; see the type for why it is available.
    #[inline(always)]
    fn token() -> S {
        // SAFETY: lanes are used only where these instructions are available; see the type.
        unsafe { token() }
    }
}
impl<S: Simd> LaneMask<S> {
    /// See [`Lanes::token`].
    #[inline(always)]
    fn token() -> S {
        Lanes::<S>::token()
    }
}

impl<S: Simd> Clone for Lanes<S> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: Simd> Copy for Lanes<S> {}
impl<S: Simd> Clone for LaneMask<S> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: Simd> Copy for LaneMask<S> {}

impl<S: Simd> Register for Lanes<S> {
    const COUNT: usize = S::F32_LANES;
    const UNITS: usize = match Self::COUNT {
        WIDEST => 8,
        8 => 6,
        _ => 4,
    };

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        debug_assert!(available::<S>(), "these instructions do not exist here");
        // `pulp`'s partial loads branch through a jump table, around which registers are spilled.
        Self(bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..Self::COUNT])))
    }
    #[inline(always)]
    fn load_repeated<const E: usize>(from: &[f32]) -> Self {
        if E == 1 {
            return Self::load(from);
        }
        by_instructions!(
            Self::token(),
            |v4| Self(match E {
                2 => cast(
                    v4.avx512dq._mm512_broadcast_f32x8(bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..8])))
                ),
                _ => cast(
                    v4.avx512f._mm512_broadcast_f32x4(bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..4])))
                ),
            }),
            |v3| Self(cast(
                v3.avx2._mm256_broadcastsi128_si256(bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..4])))
            )),
            Self::load(from)
        )
    }
    #[inline(always)]
    fn load_rows(from: &[f32], rows: usize) -> Self {
        let places = Self::bits_and(Self::iota(0), Self::splat_bits(rows as u32 - 1));
        Self::load(from).picked(places)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        bytemuck::cast_slice_mut(&mut to[..Self::COUNT]).copy_from_slice(bytemuck::bytes_of(&self.0));
    }
    #[inline(always)]
    fn iota(first: u32) -> S::u32s {
        debug_assert!(available::<S>(), "these instructions do not exist here");
        const STEPS: [u32; 64] = {
            let mut steps = [0; 64];
            let mut i = 0;
            while i < 64 {
                steps[i] = i as u32;
                i += 1;
            }
            steps
        };
        let simd = Self::token();
        let steps = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&STEPS[..Self::COUNT]));
        simd.add_u32s(steps, simd.splat_u32s(first))
    }
    #[inline(always)]
    fn rows_of_words(first: u32) -> S::u32s {
        by_instructions!(
            Self::token(),
            |_v4| Self::iota(first),
            |v3| cast(v3.avx2._mm256_add_epi32(cast(philox::ROWS), v3.avx._mm256_set1_epi32(first as i32))),
            Self::iota(first)
        )
    }
    #[inline(always)]
    unsafe fn gather_2x2(samples: &[f32], first: S::u32s) -> [Self; 4] {
        // SAFETY: by the caller's guarantee.
        let [a, b, c, d] = unsafe { gather::gather_2x2(Self::token(), samples, first) };
        [Self(a), Self(b), Self(c), Self(d)]
    }
    #[inline(always)]
    fn any(mask: LaneMask<S>) -> bool {
        Self::token().first_true_m32s(mask.0) < S::F32_LANES
    }
    #[inline(always)]
    fn map<const A: usize>(function: impl Fn([f32; A]) -> f32, arguments: [Self; A]) -> Self {
        let mut out = Self::from(0.0);
        let lanes: &mut [f32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut out.0));
        for (i, lane) in lanes.iter_mut().enumerate() {
            let mut of_lane = [0.0; A];
            for (one, all) in of_lane.iter_mut().zip(&arguments) {
                let all: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&all.0));
                *one = all[i];
            }
            *lane = function(of_lane);
        }
        out
    }
}

impl<S: Simd> Lanes<S> {
    /// Whether the processor has thirty-two registers instead of sixteen, which holds with AVX-512. (NEON has
    /// thirty-two as well, of four lanes each, but has not been measured.)
    pub(crate) const THIRTY_TWO: bool = S::F32_LANES == WIDEST;

    /// Permutes the lanes: lane l of the result is lane `places[l]` of self.
    #[inline(always)]
    pub(crate) fn picked(self, places: S::u32s) -> Self {
        by_instructions!(
            Self::token(),
            |v4| Self(cast(v4.avx512f._mm512_permutexvar_ps(cast(places), cast(self.0)))),
            |v3| Self(cast(v3.avx2._mm256_permutevar8x32_ps(cast(self.0), cast(places)))),
            {
                let from: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&self.0));
                let mut out = Self::from(0.0);
                let lanes: &mut [f32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut out.0));
                for (lane, place) in lanes.iter_mut().zip(bytemuck::cast_slice(std::slice::from_ref(&places))) {
                    let place: &u32 = place;
                    *lane = from[*place as usize];
                }
                out
            }
        )
    }

    /// Folds all lanes into one number, from the first to the last.
    #[inline(always)]
    pub(crate) fn fold(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let lanes: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&self.0));
        lanes[1..].iter().fold(lanes[0], |a, b| f(a, *b))
    }

    /// The number of registers that hold [`WIDEST`] lanes.
    pub(crate) const PARTS: usize = {
        assert!(Self::COUNT <= WIDEST && WIDEST.is_multiple_of(Self::COUNT));
        WIDEST / Self::COUNT
    };

    /// The sum of the lanes of the first [`Self::PARTS`] registers, as a tree: lane l plus lane l + 8, then plus lane l
    /// + 4, and so on. The result has the same bits for every register width.
    #[inline(always)]
    pub(crate) fn sum(mut parts: [Self; WIDEST]) -> f32 {
        let mut n = Self::PARTS;
        while n > 1 {
            n /= 2;
            for i in 0..n {
                parts[i] += parts[i + n];
            }
        }
        Self::token().reduce_sum_f32s(parts[0].0)
    }
}

impl<S: Simd> From<f32> for Lanes<S> {
    #[inline(always)]
    fn from(value: f32) -> Self {
        Self(Self::token().splat_f32s(value))
    }
}

macro_rules! arithmetic {
    ($($op:ident $method:ident $assign:ident $assign_method:ident $simd:ident;)*) => {$(
        impl<S: Simd> $op for Lanes<S> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(Self::token().$simd(self.0, other.0))
            }
        }
        impl<S: Simd> $op<f32> for Lanes<S> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: f32) -> Self {
                self.$method(Self::from(other))
            }
        }
        impl<S: Simd> $assign for Lanes<S> {
            #[inline(always)]
            fn $assign_method(&mut self, other: Self) {
                *self = self.$method(other);
            }
        }
    )*};
}
arithmetic! {
    Add add AddAssign add_assign add_f32s;
    Sub sub SubAssign sub_assign sub_f32s;
    Mul mul MulAssign mul_assign mul_f32s;
    Div div DivAssign div_assign div_f32s;
}

impl<S: Simd> Neg for Lanes<S> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(Self::token().neg_f32s(self.0))
    }
}

impl<S: Simd> BitAnd for LaneMask<S> {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(Self::token().and_m32s(self.0, other.0))
    }
}
impl<S: Simd> BitOr for LaneMask<S> {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(Self::token().or_m32s(self.0, other.0))
    }
}
impl<S: Simd> Not for LaneMask<S> {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Self(Self::token().xor_m32s(self.0, Self::splat(true).0))
    }
}
impl<S: Simd> Mask for LaneMask<S> {
    #[inline(always)]
    fn splat(value: bool) -> Self {
        let simd = Self::token();
        Self(simd.equal_u32s(simd.splat_u32s(u32::from(value)), simd.splat_u32s(1)))
    }
}

// SAFETY: it is one register, for which any bit pattern is valid.
unsafe impl<S: Simd> sealed::Sealed for Lanes<S> {}

impl<S: Simd> Vector for Lanes<S> {
    type Bits = S::u32s;
    type Truth = LaneMask<S>;
    type Uniform = u32;

    // Eight lanes are AVX2, on which a word occupies two registers.
    const PHILOX_UNROLL: usize = match S::F32_LANES {
        WIDEST => 4,
        8 => 1,
        _ => 2,
    };

    #[inline(always)]
    fn bits(self) -> S::u32s {
        Self::token().transmute_u32s_f32s(self.0)
    }
    #[inline(always)]
    fn from_bits(bits: S::u32s) -> Self {
        Self(Self::token().transmute_f32s_u32s(bits))
    }
    #[inline(always)]
    fn splat_bits(bits: u32) -> S::u32s {
        Self::token().splat_u32s(bits)
    }
    #[inline(always)]
    fn splat_uniform(word: u32) -> S::u32s {
        Self::token().splat_u32s(word)
    }
    #[inline(always)]
    fn bits_and(a: S::u32s, b: S::u32s) -> S::u32s {
        Self::token().and_u32s(a, b)
    }
    #[inline(always)]
    fn bits_or(a: S::u32s, b: S::u32s) -> S::u32s {
        Self::token().or_u32s(a, b)
    }
    #[inline(always)]
    fn bits_xor(a: S::u32s, b: S::u32s) -> S::u32s {
        Self::token().xor_u32s(a, b)
    }
    #[inline(always)]
    fn bits_add(a: S::u32s, b: S::u32s) -> S::u32s {
        Self::token().add_u32s(a, b)
    }
    #[inline(always)]
    fn bits_sub(a: S::u32s, b: S::u32s) -> S::u32s {
        Self::token().sub_u32s(a, b)
    }
    #[inline(always)]
    fn bits_mul(a: S::u32s, b: S::u32s) -> S::u32s {
        Self::token().mul_u32s(a, b)
    }
    #[inline(always)]
    fn bits_shl(a: S::u32s, by: u32) -> S::u32s {
        Self::token().wrapping_dyn_shl_u32s(a, Self::token().splat_u32s(by))
    }
    #[inline(always)]
    fn bits_shr(a: S::u32s, by: u32) -> S::u32s {
        Self::token().wrapping_dyn_shr_u32s(a, Self::token().splat_u32s(by))
    }
    #[inline(always)]
    fn bits_eq(a: S::u32s, b: S::u32s) -> LaneMask<S> {
        LaneMask(Self::token().equal_u32s(a, b))
    }
    #[inline(always)]
    fn bits_select(mask: LaneMask<S>, yes: S::u32s, no: S::u32s) -> S::u32s {
        Self::token().select_u32s(mask.0, yes, no)
    }
    #[inline(always)]
    fn bits_mul_wide(a: S::u32s, b: u32) -> (S::u32s, S::u32s) {
        mul_wide(Self::token(), a, b)
    }
    #[inline(always)]
    fn words(rows: &PhiloxRow<Self>, block: u32) -> [S::u32s; 4] {
        by_instructions!(
            Self::token(),
            |_v4| rows.block(block),
            |v3| {
                let [a, b, c, d] = philox::words(v3, rows, block);
                [cast(a), cast(b), cast(c), cast(d)]
            },
            rows.block(block)
        )
    }
    #[inline(always)]
    fn simd_min(self, other: Self) -> Self {
        Self(Self::token().min_f32s(self.0, other.0))
    }
    #[inline(always)]
    fn simd_max(self, other: Self) -> Self {
        Self(Self::token().max_f32s(self.0, other.0))
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        Self(Self::token().mul_add_e_f32s(self.0, a.0, b.0))
    }
    #[inline(always)]
    fn simd_sqrt(self) -> Self {
        Self(Self::token().sqrt_f32s(self.0))
    }
    #[inline(always)]
    fn relu(self) -> Self {
        // The x86 maximum returns its second operand if either one is NaN.
        by_instructions!(
            Self::token(),
            |_v4| self.simd_max(Self::from(0.0)),
            |_v3| self.simd_max(Self::from(0.0)),
            relu(self)
        )
    }
    #[inline(always)]
    fn from_i32(bits: S::u32s) -> Self {
        by_instructions!(
            Self::token(),
            |v4| Self(cast(v4.avx512f._mm512_cvtepi32_ps(cast(bits)))),
            |v3| Self(cast(v3.avx._mm256_cvtepi32_ps(cast(bits)))),
            {
                let mut out = Self::from(0.0);
                let lanes: &mut [f32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut out.0));
                for (lane, integer) in lanes.iter_mut().zip(bytemuck::cast_slice(std::slice::from_ref(&bits))) {
                    let integer: &i32 = integer;
                    *lane = *integer as f32;
                }
                out
            }
        )
    }
    #[inline(always)]
    fn select_by_sign(bits: S::u32s, yes: Self, no: Self) -> Self {
        by_instructions!(
            Self::token(),
            |v4| {
                let set = v4.avx512f._mm512_cmplt_epi32_mask(cast(bits), v4.avx512f._mm512_setzero_si512());
                Self(cast(v4.avx512f._mm512_mask_blend_ps(set, cast(no.0), cast(yes.0))))
            },
            |v3| Self(cast(v3.avx._mm256_blendv_ps(cast(no.0), cast(yes.0), cast(bits)))),
            select_by_sign(bits, yes, no)
        )
    }
    #[inline(always)]
    fn index(self) -> S::u32s {
        by_instructions!(
            Self::token(),
            |v4| cast(v4.avx512f._mm512_cvttps_epi32(cast(self.0))),
            |v3| cast(v3.avx._mm256_cvttps_epi32(cast(self.0))),
            index(self)
        )
    }
    #[inline(always)]
    fn simd_floor(self) -> Self {
        by_instructions!(
            Self::token(),
            // Rounds down and suppresses the inexact exception.
            |v4| Self(cast(v4.avx512f._mm512_roundscale_ps::<0b1001>(cast(self.0)))),
            |v3| Self(cast(v3.avx._mm256_floor_ps(cast(self.0)))),
            floor(self)
        )
    }
    #[inline(always)]
    fn simd_lt(self, other: Self) -> LaneMask<S> {
        LaneMask(Self::token().less_than_f32s(self.0, other.0))
    }
    #[inline(always)]
    fn simd_le(self, other: Self) -> LaneMask<S> {
        LaneMask(Self::token().less_than_or_equal_f32s(self.0, other.0))
    }
    #[inline(always)]
    fn simd_eq(self, other: Self) -> LaneMask<S> {
        LaneMask(Self::token().equal_f32s(self.0, other.0))
    }
    #[inline(always)]
    fn simd_select(mask: LaneMask<S>, yes: Self, no: Self) -> Self {
        Self(Self::token().select_f32s(mask.0, yes.0, no.0))
    }
}
