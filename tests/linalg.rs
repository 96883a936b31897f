//! Vectors, matrices and quaternions against glam in `f32` and `f64`, closed forms of their derivatives, and each other
//! on every backend.

mod common;

use common::engines;
use gibbs::check::{Map, evaluate};
use gibbs::derivative::{Dual, jacobian};
use gibbs::linalg::{Mat3, Quat, Vec2, Vec3};
use gibbs::{Model, ModelParams, Random, Real, StepContext};
use glam::{DMat3, DQuat, DVec2, DVec3};

const ROUNDS: usize = 500;

/// A vector with normal components.
fn vector(random: &mut Random) -> Vec3<f32> {
    Vec3::new(random.normal(), random.normal(), random.normal())
}

fn double(v: Vec3<f32>) -> DVec3 {
    DVec3::from_array(v.to_array().map(f64::from))
}

fn double_2(v: Vec2<f32>) -> DVec2 {
    DVec2::from_array(v.to_array().map(f64::from))
}

fn double_quat(q: Quat<f32>) -> DQuat {
    DQuat::from_array(q.to_array().map(f64::from))
}

fn double_mat(m: Mat3<f32>) -> DMat3 {
    DMat3::from_cols_array_2d(&m.to_cols_array_2d().map(|column| column.map(f64::from)))
}

/// Whether numbers agree with a reference to some roundings of its size.
#[track_caller]
fn close<const N: usize>(found: [f32; N], expected: [f64; N]) {
    let size = 1.0 + expected.iter().fold(0.0_f64, |size, e| size.max(e.abs()));
    for i in 0..N {
        assert!((f64::from(found[i]) - expected[i]).abs() < 2e-6 * size, "{i}: {found:?}, but {expected:?}");
    }
}

#[test]
fn vectors_compute_what_those_of_glam_compute() {
    let mut random = Random::new(1);
    for _ in 0..ROUNDS {
        let [a, b, c] = [0; 3].map(|_| vector(&mut random));
        let (t, [x, y, z]) = (random.normal(), [a, b, c].map(double));
        let [f, g] = [a, b].map(|v| glam::Vec3::from_array(v.to_array()));
        // These are the same operations in the same order.
        assert_eq!(a.dot(b), f.dot(g));
        assert_eq!((a + b - -a).to_array(), (f + g - -f).to_array());
        assert_eq!((a * t / 3.0).to_array(), (f * t / 3.0).to_array());
        assert_eq!(a.min(b).to_array(), f.min(g).to_array());
        assert_eq!(a.max(b).to_array(), f.max(g).to_array());
        assert_eq!(a.abs().to_array(), f.abs().to_array());
        close(a.cross(b).to_array(), x.cross(y).to_array());
        close([a.length(), a.distance(b)], [x.length(), x.distance(y)]);
        close([a.length_squared(), a.distance_squared(b)], [x.length_squared(), x.distance_squared(y)]);
        close(a.normalize().to_array(), x.normalize().to_array());
        close(a.normalize_or_zero().to_array(), x.normalize_or_zero().to_array());
        close(a.project_onto(b).to_array(), x.project_onto(y).to_array());
        close(a.lerp(b, t).to_array(), x.lerp(y, f64::from(t)).to_array());
        close(a.mul_add(b, c).to_array(), x.mul_add(y, z).to_array());

        let ([a, b], [x, y]) = ([a.truncate(), b.truncate()], [x.truncate(), y.truncate()]);
        assert_eq!((a.extend(t) - Vec3::new(a.x, 0.0, 0.0)).to_array(), [0.0, a.y, t]);
        close(a.rotate(b).to_array(), x.rotate(y).to_array());
        close([a.perp_dot(b), a.to_angle()], [x.perp_dot(y), x.to_angle()]);
        close(a.perp().to_array(), x.perp().to_array());
        close(Vec2::from_angle(t).to_array(), DVec2::from_angle(f64::from(t)).to_array());
        close(a.normalize().to_array(), double_2(a).normalize().to_array());
    }
}

#[test]
fn assignments_are_those_of_the_operators() {
    let (a, b) = (Vec3::<f32>::from([1.0, 2.0, -3.0]), Vec3::splat(0.5));
    let mut c = a;
    c += b;
    c -= Vec3::new(0.0, 1.0, 0.0);
    c *= 2.0;
    c /= 4.0;
    assert_eq!(c, (a + b - Vec3::new(0.0, 1.0, 0.0)) * 0.5);
    assert_eq!(Vec3::select(true, a, b), a);
    assert_eq!(Vec2::select(false, a.truncate(), b.truncate()), b.truncate());
}

#[test]
fn rotations_are_those_of_glam() {
    let mut random = Random::new(2);
    for _ in 0..ROUNDS {
        let [axis, v, w] = [0; 3].map(|_| vector(&mut random));
        let (axis, angle) = (axis.normalize(), 3.0 * random.normal());
        let (unit, turn) = (double(axis), f64::from(angle));
        let (p, q) = (Quat::from_axis_angle(axis, angle), Quat::from_scaled_axis(w));
        close(p.to_array(), DQuat::from_axis_angle(unit, turn).to_array());
        close(q.to_array(), DQuat::from_scaled_axis(double(w)).to_array());
        close(Quat::from_rotation_x(angle).to_array(), DQuat::from_rotation_x(turn).to_array());
        close(Quat::from_rotation_y(angle).to_array(), DQuat::from_rotation_y(turn).to_array());
        close(Quat::from_rotation_z(angle).to_array(), DQuat::from_rotation_z(turn).to_array());
        close((p * q).to_array(), (double_quat(p) * double_quat(q)).to_array());
        close((p * v).to_array(), (double_quat(p) * double(v)).to_array());
        close((p.conjugate() * (p * v)).to_array(), double(v).to_array());
        close([p.dot(q), p.length()], [double_quat(p).dot(double_quat(q)), 1.0]);
        let long = Quat::from_xyzw(v.x, v.y, v.z, angle);
        close(long.normalize().to_array(), double_quat(long).normalize().to_array());
        assert_eq!((-long).to_array(), long.to_array().map(|c| -c));

        let columns = |m: Mat3<f32>| m.to_cols_array_2d().as_flattened().try_into().expect("nine numbers");
        let same = |m: Mat3<f32>, n: DMat3| close::<9>(columns(m), n.to_cols_array());
        let (m, n) = (Mat3::from_quat(p), Mat3::from_cols(v, w, axis));
        same(m, DMat3::from_quat(double_quat(p)));
        same(Mat3::from_axis_angle(axis, angle), DMat3::from_axis_angle(unit, turn));
        same(Mat3::from_rotation_x(angle), DMat3::from_rotation_x(turn));
        same(Mat3::from_rotation_y(angle), DMat3::from_rotation_y(turn));
        same(Mat3::from_rotation_z(angle), DMat3::from_rotation_z(turn));
        same(m * n, double_mat(m) * double_mat(n));
        same(m + n - -n.mul_scalar(2.0), double_mat(m) + double_mat(n) * 3.0);
        close((n * v).to_array(), (double_mat(n) * double(v)).to_array());
        same(n.transpose(), double_mat(n).transpose());
        close([n.determinant()], [double_mat(n).determinant()]);
        same(m.inverse(), double_mat(m).transpose());
        // Small multiples of the identity keep the inverse well conditioned.
        let regular = n.mul_scalar(0.1) + Mat3::identity();
        same(regular.inverse(), double_mat(regular).inverse());
    }
}

/// The derivatives are those of the kinematics, and one step of `integrate` turns by 2 atan(½|φ|) about φ.
#[test]
fn quaternions_are_integrated_as_documented() {
    let mut random = Random::new(3);
    for _ in 0..ROUNDS {
        let [axis, rate, mut angle] = [0; 3].map(|_| vector(&mut random));
        let q = Quat::from_scaled_axis(axis);
        // q̇ = ½ q ⊗ (0, ω), and q(t) = q ⊗ exp(½ ω t) has this derivative at 0.
        let time = Dual::<f32, 1>::variables([0.0])[0];
        let constant = |x: f32| Dual::<f32, 1>::constant(x);
        let [x, y, z] = rate.to_array().map(|rate| constant(rate) * time);
        let moving = Quat::from_array(q.to_array().map(constant)) * Quat::from_scaled_axis(Vec3 { x, y, z });
        let expected = double_quat(q)
            * DQuat::from_array([0.5 * f64::from(rate.x), 0.5 * f64::from(rate.y), 0.5 * f64::from(rate.z), 0.0]);
        close(q.derivative(rate).to_array(), expected.to_array());
        close(moving.to_array().map(|c| c.slopes[0]), expected.to_array());

        angle *= 0.7;
        let turn = 2.0 * (0.5 * double(angle).length()).atan();
        let exact = double_quat(q) * DQuat::from_axis_angle(double(angle).normalize(), turn);
        let exact = if exact.w < 0.0 { -exact } else { exact };
        close(q.integrate(angle).to_array(), exact.to_array());
    }
}

#[test]
fn what_is_zero_stays_finite_and_has_the_right_slopes() {
    let [x, y, z] = Dual::<f32, 3>::variables([0.0; 3]);
    let zero = Vec3 { x, y, z };
    for component in zero.normalize_or_zero().to_array() {
        assert_eq!((component.value, component.slopes), (0.0, [0.0; 3]));
    }
    // d/dφ exp(½φ) = (½, 0) at the identity.
    let turn = Quat::from_scaled_axis(zero);
    assert_eq!(turn.to_array().map(|c| c.value), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(turn.to_array().map(|c| c.slopes), [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5], [0.0; 3]]);
    // The series and the sine agree where one takes over from the other.
    for length in [1e-20_f32, 1e-6, 9.99e-3, 1.001e-2, 0.1] {
        let axis = Vec3::new(0.6 * length, 0.0, -0.8 * length);
        let (found, exact) = (Quat::from_scaled_axis(axis), DQuat::from_scaled_axis(double(axis)));
        close(found.to_array(), exact.to_array());
        let relative = f64::from(found.x) / exact.x;
        assert!((relative - 1.0).abs() < 5e-7, "{length}: {relative}");
    }
}

/// A point that the control rotates about z (in radians).
struct Turntable;

#[gibbs::model]
impl Model<3, 1> for Turntable {
    fn step<R: Real>(&self, _: &StepContext<R>, x: [R; 3], [angle]: [R; 1]) -> [R; 3] {
        (Quat::from_rotation_z(angle) * Vec3::from_array(x)).to_array()
    }
    fn cost<R: Real>(&self, _: &StepContext<R>, x: [R; 3], _: [R; 1]) -> R {
        Vec3::from_array(x).length_squared()
    }
}

/// ∂(R v)/∂v = R, and ∂(R v)/∂angle = e_z × R v.
#[test]
fn the_derivative_of_a_rotation_is_its_closed_form() {
    let mut random = Random::new(4);
    for _ in 0..ROUNDS {
        let (v, angle) = (vector(&mut random), random.normal());
        let (by_v, by_angle) = jacobian(&Turntable, &StepContext::new(0, 0.1), v.to_array(), [angle]);
        let rotation = DMat3::from_rotation_z(f64::from(angle));
        let turned = rotation * double(v);
        for row in 0..3 {
            close(by_v[row], rotation.row(row).to_array());
        }
        close(by_angle.map(|[slope]| slope), DVec3::Z.cross(turned).to_array());
    }
}

/// A function that uses all there is.
struct All;

#[gibbs::model]
impl Map<7, 9> for All {
    fn map<R: Real>(&self, [a, b, c, d, e, f, angle]: [R; 7]) -> [R; 9] {
        let (u, v) = (Vec3::new(a, b, c), Vec3::new(d, e, f));
        let q = Quat::from_scaled_axis(u) * Quat::from_axis_angle(v.normalize_or_zero(), angle);
        let m = Mat3::from_quat(q.integrate(v)) * Mat3::from_axis_angle(u.normalize_or_zero(), angle);
        let w = Vec2::from_angle(angle).rotate(u.truncate()).extend(q.derivative(v).w);
        let y = m.inverse() * u.cross(v) + w.lerp(v, 0.25).min(u);
        let [x0, x1, x2] = y.to_array();
        let [y0, y1, y2, y3] = q.normalize().to_array();
        [x0, x1, x2, y0, y1, y2, y3, m.determinant(), u.distance(v)]
    }
}

#[test]
fn every_backend_computes_the_same() {
    let mut random = Random::new(5);
    let mut inputs: Vec<[f32; 7]> = (0..200).map(|_| [0; 7].map(|_| random.normal())).collect();
    inputs.push([0.0; 7]);
    for engine in engines() {
        let found = evaluate(&engine, &All, &inputs).expect("it is a kernel");
        for (x, found) in inputs.iter().zip(found) {
            close(found, All.map(*x).map(f64::from));
        }
    }
}

#[test]
fn vectors_are_run_time_parameters() {
    #[derive(Debug, PartialEq, ModelParams)]
    struct Pose<R> {
        at: Vec3<R>,
        attitude: Quat<R>,
        inertia: Mat3<R>,
        map: [Vec2<R>; 2],
    }
    let pose = Pose {
        at: Vec3::new(1.0, 2.0, 3.0),
        attitude: Quat::from_xyzw(4.0, 5.0, 6.0, 7.0),
        inertia: Mat3::from_cols_array_2d([[8.0, 9.0, 10.0], [11.0, 12.0, 13.0], [14.0, 15.0, 16.0]]),
        map: [Vec2::new(17.0, 18.0), Vec2::new(19.0, 20.0)],
    };
    let values: Vec<f32> = (1..=20).map(|i| i as f32).collect();
    assert_eq!(pose.to_array(), values[..]);
    assert_eq!(StepContext::new(0, 0.1).with_params(&values).params::<Pose<f32>>(), pose);
    let names = [0, 6, 7, 15, 19].map(<Pose<f32> as ModelParams<f32>>::name);
    assert_eq!(names, [".at.x", ".attitude.w", ".inertia.x_axis.x", ".inertia.z_axis.z", ".map[1].y"]);
}

#[cfg(feature = "glam")]
#[test]
fn values_convert_from_and_to_glam() {
    let v = glam::Vec3::new(1.0, 2.0, 3.0);
    assert_eq!(glam::Vec3::from(Vec3::<f32>::from(v)), v);
    assert_eq!(Vec2::from(v.truncate()), Vec2::new(1.0_f32, 2.0));
    assert_eq!(glam::Vec2::from(Vec2::new(1.0, 2.0)), v.truncate());
    let q = glam::Quat::from_xyzw(0.1, 0.2, 0.3, 0.9);
    assert_eq!(glam::Quat::from(Quat::<f32>::from(q)), q);
    assert_eq!(Quat::<f32>::from(q).to_array(), q.to_array());
    let m = glam::Mat3::from_quat(q);
    assert_eq!(glam::Mat3::from(Mat3::<f32>::from(m)), m);
    assert_eq!(Mat3::<f32>::from(m).to_cols_array_2d(), m.to_cols_array_2d());
    // Into any number of a model.
    assert_eq!(Vec3::<Dual<f32, 2>>::from(v).y.slopes, [0.0; 2]);
}
