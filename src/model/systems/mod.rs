//! Ready-made systems, each a complete [`Model`](crate::model::Model) that documents its equations, units and source.
//!
//! | model | states | controls | one step |
//! |---|---|---|---|
//! | [`CartPole`] | x, ẋ, θ, θ̇ | force | semi-implicit Euler |
//! | [`Pendulum`] | θ, θ̇ | torque | semi-implicit Euler |
//! | [`DoubleIntegrator`] | x, y, v_x, v_y | a_x, a_y | exact |
//! | [`Unicycle`] | x, y, θ | v, ω | midpoint, exact in θ |
//! | [`DifferentialDrive`] | x, y, ψ | ω_l, ω_r | midpoint, exact in ψ |
//! | [`Bicycle`] | x, y, θ, v | acceleration, steering angle | midpoint, exact in θ and v |
//! | [`PlanarQuadrotor`] | x, y, θ, v_x, v_y, ω | right and left thrust | semi-implicit Euler |
//! | [`Quadrotor`] | position, velocity, quaternion, body rates | three rate commands, thrust | second order |
//!
//! Units are SI, angles in radians, counter-clockwise positive. Physical parameters are public fields and become
//! constants of the kernel. So does `cost`, which makes `CartPole::default()` a task of its own: change its weights,
//! or take the dynamics alone and bring another cost through [`with_cost`](crate::model::Model::with_cost). Limits on
//! the controls belong to the driver.
//!
//! # Example
//!
//! ```
//! use gibbs::models::{CartPole, Quadratic, SwingUp};
//! use gibbs::{Model, StepContext};
//!
//! let heavy = CartPole { pole: 0.5, ..CartPole::default() };
//! let hasty = CartPole { cost: SwingUp { angle: 20.0, ..SwingUp::default() }, ..heavy };
//! let parked = heavy.with_cost(Quadratic { target: [2.0, 0.0, 0.0, 0.0], state: [1.0; 4], ..Quadratic::default() });
//!
//! let at = StepContext::new(0, 0.02);
//! let (x, u) = ([0.0_f32, 0.0, 0.1, 0.0], [1.0]);
//! assert_eq!(hasty.step(&at, x, u), parked.step(&at, x, u));
//! assert!(hasty.cost(&at, x, u) != parked.cost(&at, x, u));
//! ```

pub(crate) mod bicycle;
pub(crate) mod cart_pole;
pub(crate) mod cost;
pub(crate) mod differential_drive;
pub(crate) mod double_integrator;
pub(crate) mod pendulum;
pub(crate) mod planar_quadrotor;
pub(crate) mod quadrotor;
pub(crate) mod unicycle;

pub use bicycle::Bicycle;
pub use cart_pole::{CartPole, SwingUp};
pub use cost::Quadratic;
pub use differential_drive::DifferentialDrive;
pub use double_integrator::DoubleIntegrator;
pub use pendulum::Pendulum;
pub use planar_quadrotor::PlanarQuadrotor;
pub use quadrotor::Quadrotor;
pub use unicycle::Unicycle;
