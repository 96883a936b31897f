//! Checks that every address a kernel can form lies within its buffer. Kernels are compiled without bounds checks, so
//! drivers call this before every run: a bug in this crate then returns an error instead of accessing memory out of
//! bounds.

use super::program::{Program, Scoring};
use crate::error::EngineError;
use crate::kernels::pass::{FILTERED, FLEET, Layout, NoiseId, Pass, Problem, SCORED, STD_SCALE, TILE};
#[cfg(feature = "gpu")]
use crate::kernels::pass::{GIVEN, GROUP, round_up};

/// The capacity of each device buffer, in `f32`s (`summaries`: in summaries).
#[cfg(feature = "gpu")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) inputs: u64,
    pub(crate) weights: u64,
    pub(crate) fields: u64,
    pub(crate) rows: u64,
    pub(crate) scores: u64,
    pub(crate) log_weights: u64,
    pub(crate) partials: u64,
    pub(crate) nominal: u64,
    pub(crate) summaries: u64,
}

/// Returns an error unless a size is the one that kernels expect.
fn same(what: &str, found: u64, expected: u64) -> Result<(), EngineError> {
    if found == expected {
        return Ok(());
    }
    Err(EngineError::Driver { message: format!("{what}: {found}, but kernels expect {expected}") })
}

/// Returns an error if a kernel addresses more of a buffer than there is.
fn holds(what: &str, there: u64, reached: u64) -> Result<(), EngineError> {
    if reached <= there {
        return Ok(());
    }
    Err(EngineError::Driver { message: format!("{what}: {there} numbers, but kernels address {reached}") })
}

/// The length of the table after the other sections of the inputs: rewards of rows, or starts of episodes, each a state
/// followed by the model's parameters.
fn table_len(program: &Program, pass: &Pass, layout: Layout) -> u64 {
    let [rows, problems, episodes] = [pass.rows, pass.problems, pass.episodes].map(u64::from);
    match program.scoring {
        Scoring::Model => 0,
        Scoring::Distance => rows,
        Scoring::Policy(_) => {
            let starts = if pass.has(SCORED) { rows } else { episodes };
            problems * starts * (layout.states + layout.params) as u64
        }
    }
}

/// Returns the number of sections of the inputs: one, or as many as there are groups of problems with inputs of their
/// own, each with its scenarios.
fn sections(pass: &Pass) -> Result<u64, EngineError> {
    let Pass { problems, chains, .. } = *pass;
    if !pass.has(FLEET) {
        return same("scenarios without a fleet", pass.scenarios.into(), 0).map(|()| 1);
    }
    match problems.checked_div(chains) {
        Some(groups) if problems.is_multiple_of(chains) => Ok(u64::from(groups) * pass.sections() as u64),
        _ => Err(EngineError::Driver { message: format!("{problems} problems in groups of {chains}") }),
    }
}

/// Checks that the offsets in the passes match the layout of the inputs, and that every section has the size that the
/// passes state.
pub(crate) fn places(program: &Program, passes: &[Pass], problem: &Problem<'_>) -> Result<(), EngineError> {
    let (layout, requirements) = (problem.layout, &program.requirements);
    same("states", layout.states as u64, program.states as u64)?;
    holds("parameters", layout.params as u64, requirements.params as u64)?;
    holds("columns of the references", layout.reference_columns as u64, requirements.columns as u64)?;
    holds("fields", problem.fields.len() as u64, requirements.fields as u64)?;
    for network in &*requirements.networks {
        holds("weights", problem.weights.values.len() as u64, network.end() as u64)?;
    }
    for look_up in &*requirements.look_ups {
        let [dimensions, channels] = problem.fields.look_ups().shape(look_up.field).unwrap_or_default();
        same("dimensions of a field", dimensions as u64, look_up.dimensions as u64)?;
        holds("channels of a field", channels as u64, look_up.channels as u64)?;
    }
    holds("samples of fields", problem.fields.packed_len() as u64, problem.fields.reach() as u64)?;
    let Some(first) = passes.first() else { return Ok(()) };
    let [rows, width, problems] = [first.rows, first.width, first.problems].map(u64::from);
    let (table, sections) = (layout.table() as u64 + table_len(program, first, layout), sections(first)?);
    if first.has(FLEET) {
        let expected = table + NoiseId::LEN as u64;
        same("the distance of inputs", first.inputs_stride.into(), expected)?;
        same("inputs", problem.inputs.len() as u64, sections * expected)?;
        same("the table of a fleet", table_len(program, first, layout), 0)?;
    } else {
        same("inputs", problem.inputs.len() as u64, table)?;
    }
    same("the nominal", problem.nominal.len() as u64, problems * width)?;
    if first.has(STD_SCALE) {
        same("the spread", problem.std_scale.len() as u64, problems * u64::from(first.coordinates))?;
    }
    if let Some(given) = problem.rows {
        same("given rows", given.len() as u64, rows * width)?;
    }
    match program.scoring {
        Scoring::Policy(_) => {
            let deviations = if first.has(SCORED) { layout.controls } else { 0 };
            holds("parameters of the policy", width, (requirements.weights + deviations) as u64)?;
        }
        Scoring::Model | Scoring::Distance => {
            same("numbers of a row", width, u64::from(first.horizon) * layout.controls as u64)?;
            let filter = problem.filter.filter(|_| first.has(FILTERED));
            let innovations = filter.map_or(first.horizon as usize, |f| f.innovations(first.horizon as usize));
            same("coordinates", first.coordinates.into(), (innovations * layout.controls) as u64)?;
        }
    }
    for pass in passes {
        same("the place of references", pass.references.into(), layout.references() as u64)?;
        same("rows of references", pass.reference_rows.into(), layout.reference_rows as u64)?;
        same("columns of references", pass.reference_columns.into(), layout.reference_columns as u64)?;
        if program.scoring != Scoring::Model {
            same("the place of the table", pass.starts.into(), layout.table() as u64)?;
        }
        // All passes of a call share one buffer layout, so their sizes must agree.
        let sizes = |pass: &Pass| {
            let Pass {
                rows, width, coordinates, horizon, problems, episodes, chains, inputs_stride, scenarios, ..
            } = *pass;
            let flags = pass.flags & FLEET;
            [rows, width, coordinates, horizon, problems, episodes, chains, inputs_stride, scenarios, flags]
        };
        if sizes(pass) != sizes(first) || pass.coordinate_stride != TILE as u32 || pass.row_stride != 1 {
            return Err(EngineError::Driver { message: "passes of one call differ in their sizes".into() });
        }
    }
    Ok(())
}

/// Checks that every address formed by the kernels of a device lies within its buffers; see the address computations in
/// `shaders/*.wgsl`. `chunks` are the chunks of passes that are uploaded.
#[cfg(feature = "gpu")]
pub(crate) fn within(
    program: &Program,
    chunks: &[Pass],
    problem: &Problem<'_>,
    capacity: &Capacity,
) -> Result<(), EngineError> {
    let policy = matches!(program.scoring, Scoring::Policy(_));
    let layout = problem.layout;
    let flags = chunks.first().map_or(0, |chunk| crate::runtime::gpu::specialized(chunk.flags));
    holds("the buffer of inputs", capacity.inputs, problem.inputs.len() as u64)?;
    holds("the buffer of fields", capacity.fields, problem.fields.packed_len() as u64)?;
    holds("the buffer of weights", capacity.weights, problem.weights.values.len() as u64)?;
    for chunk in chunks {
        let [rows, width, problems, episodes] =
            [chunk.rows, chunk.width, chunk.problems, chunk.episodes].map(u64::from);
        let padded = round_up(chunk.rows as usize, TILE) as u64;
        // References: up to the last row of the table.
        let last = u64::from(chunk.reference_rows.max(1) - 1) * u64::from(chunk.reference_columns);
        let references = u64::from(chunk.references) + last + program.requirements.columns as u64;
        let table = u64::from(chunk.starts) + table_len(program, chunk, layout);
        let params = (layout.params_at() + program.requirements.params) as u64;
        let mut reached = params.max(references).max(table);
        if chunk.has(FLEET) {
            let stride = u64::from(chunk.inputs_stride);
            holds("the inputs of a group", stride, reached + NoiseId::LEN as u64)?;
            reached = sections(chunk)? * stride;
        }
        holds("inputs", problem.inputs.len() as u64, reached)?;

        if policy || chunk.has(GIVEN) {
            // Twin: `address` in shaders/pass.wgsl.
            let of_problem = (problems - 1) * u64::from(chunk.rows_stride);
            let tiles = (padded - TILE as u64) * width;
            let lane = (TILE as u64 - 1) * u64::from(chunk.row_stride);
            let coordinate = (width - 1) * u64::from(chunk.coordinate_stride);
            holds("the buffer of rows", capacity.rows, of_problem + tiles + lane + coordinate + 1)?;
        }
        // Three scores per row, or per row and scenario, then two per row and episode, then the saved state of
        // unfinished episodes.
        let saved =
            if chunk.begin > 0 || chunk.end < chunk.horizon { crate::runtime::gpu::saved(layout) as u64 } else { 0 };
        let of_row = if policy { 3 + (2 + saved) * episodes } else { 3 * u64::from(chunk.rollouts()) };
        holds("the buffer of scores", capacity.scores, problems * of_row * padded)?;
        holds("the buffer of log-weights", capacity.log_weights, problems * padded)?;
        // One partial result per group, followed by the merged mean.
        let coordinates = u64::from(chunk.coordinates);
        let partial = 8 + coordinates * u64::from(chunk.moments());
        let groups = rows.div_ceil(GROUP as u64);
        holds("the buffer of partial means", capacity.partials, problems * (groups + 1) * partial)?;
        holds("the buffer of nominals", capacity.nominal, 2 * problems * (width + coordinates))?;
        holds("the buffer of summaries", capacity.summaries, problems)?;
        // Kernels are specialized to the flags of the first pass.
        same("flags of passes", crate::runtime::gpu::specialized(chunk.flags).into(), flags.into())?;
    }
    // Kernels compute addresses in 32 bits.
    let Capacity { rows, scores, log_weights, partials, nominal, inputs, weights, fields, .. } = *capacity;
    [rows, scores, log_weights, partials, nominal, inputs + weights, fields]
        .into_iter()
        .try_for_each(|numbers| holds("addresses of 32 bits", 1 << 32, numbers))
}

#[cfg(all(test, feature = "gpu"))]
mod tests {
    use super::*;
    use crate::control::*;
    use crate::lang::{Real, StepContext};
    use crate::learning::*;
    use crate::model::policies::LinearFeedback;
    use crate::runtime::episodes::Mass;
    use crate::runtime::gpu::Sizes;
    use crate::runtime::task::Task;
    use crate::runtime::*;
    use crate::runtime::{Backend, Engine, EngineOptions};
    use crate::sampling::*;
    use crate::*;

    /// Reads two parameters, two references and two fields.
    struct Needy;

    impl Model<1, 2> for Needy {
        #[inline(always)]
        fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u, v]: [R; 2]) -> [R; 1] {
            [x + (u * at.param(1) + v) * at.dt()]
        }
        #[inline(always)]
        fn cost<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u, v]: [R; 2]) -> R {
            (x - at.reference(1)).square() + at.sample(1, x, u) + v.square() * at.param(0)
        }
    }

    /// Reads two parameters.
    struct CacheLine;

    impl Model<1, 1> for CacheLine {
        #[inline(always)]
        fn step<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], [u]: [R; 1]) -> [R; 1] {
            [x + u * at.dt()]
        }
        #[inline(always)]
        fn cost<R: Real>(&self, at: &StepContext<R>, [x]: [R; 1], _: [R; 1]) -> R {
            (x - at.param(1)).square()
        }
    }

    /// Reads two parameters and one field.
    struct Hill;

    impl Energy<2> for Hill {
        #[inline(always)]
        fn energy<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2]) -> R {
            (x - at.param(1)).square() + y.square() + at.sample(0, x, y)
        }
    }

    /// Random choices.
    struct Dice(Random);

    impl Dice {
        /// A random number below `count`.
        fn below(&mut self, count: usize) -> usize {
            self.0.bits() as usize % count
        }

        fn chance(&mut self) -> bool {
            self.below(2) == 0
        }

        fn numbers(&mut self, count: usize) -> Vec<f32> {
            (0..count).map(|_| self.0.between(-1.0, 1.0)).collect()
        }

        fn references(&mut self) -> References {
            let (rows, columns) = (1 + self.below(9), 2 + self.below(3));
            References { values: self.numbers(rows * columns), columns }
        }

        fn grid(&mut self) -> Grid {
            let (width, height) = (1 + self.below(9), 1 + self.below(9));
            Grid::new(width, height, 0.5, [-1.0, -1.0], self.numbers(width * height)).expect("a grid")
        }

        fn grids(&mut self) -> Vec<Grid> {
            (0..1 + self.below(4)).map(|_| self.grid()).collect()
        }

        fn limits<const M: usize>(&mut self) -> Option<Limits<M>> {
            self.chance().then(|| Limits { low: [-1.5; M], high: [f32::INFINITY; M] })
        }

        fn weighting(&mut self) -> Weighting {
            let [given, found] = [Temperature::Fixed(0.5), Temperature::EffectiveSamples(0.3)];
            [given.into(), found.into(), Weighting::Elite(0.2)][self.below(3)]
        }

        fn noise_shape(&mut self) -> NoiseShape {
            match self.below(4) {
                0 => NoiseShape::Knots { every: 1 + self.below(4), interpolation: Interpolation::Cubic },
                1 => NoiseShape::Colored { exponent: 1.0 },
                _ => NoiseShape::White,
            }
        }

        fn scenarios(&mut self) -> Vec<Scenario> {
            let count = if self.chance() { 0 } else { 1 + self.below(3) };
            (0..count)
                .map(|_| Scenario {
                    state: vec![0.1],
                    params: self.numbers(1),
                    references: self.chance().then(|| self.references()),
                })
                .collect()
        }

        fn mppi(&mut self) -> MppiOptions<2> {
            MppiOptions {
                task: Task {
                    horizon: 1 + self.below(12),
                    dt: 0.1,
                    limits: self.limits(),
                    params: {
                        let count = self.below(5);
                        self.numbers(count)
                    },
                    references: (self.below(8) > 0).then(|| self.references()),
                    scenarios: self.scenarios(),
                    fields: self.grids(),
                    ..Default::default()
                },
                samples: 1 + self.below(150),
                iterations: 1 + self.below(3),
                weighting: self.weighting(),
                noise: if self.chance() { Noise::default() } else { Noise::Covariance([[1.0, 0.3], [0.3, 0.5]]) },
                noise_shape: self.noise_shape(),
                covariance_adaptation: self.chance().then_some(0.1),
                nominal_first: self.chance(),
                antithetic: self.chance(),
                ..Default::default()
            }
        }

        fn diffusion(&mut self) -> DiffusionOptions<2> {
            let MppiOptions { task, samples, weighting, noise, noise_shape, .. } = self.mppi();
            let schedule = Schedule::Geometric { levels: 2 + self.below(3), smallest: 0.2, largest: 1.0 };
            DiffusionOptions {
                task,
                samples,
                weighting,
                noise,
                noise_shape,
                chains: 1 + self.below(5),
                scatter: self.chance(),
                demonstration: self.chance().then_some(1.0),
                horizon_annealing: self.chance().then_some(0.7),
                process: ReverseProcess { schedule, ..Default::default() },
                ..Default::default()
            }
        }
    }

    /// Simulates the buffers of a device: sized and reused as a real device's are.
    #[derive(Default)]
    struct Buffers(Option<Sizes>);

    impl Buffers {
        /// Asserts that every address of the kernels of a call lies within its buffers.
        fn hold(&mut self, what: &str, program: &Program, passes: &[Pass], problem: &Problem<'_>) {
            places(program, passes, problem).unwrap_or_else(|error| panic!("{what}: {error}"));
            // Runs whole episodes per dispatch, and chunks of eight time steps as a software adapter may.
            for most in [u32::MAX, 8] {
                let mut chunks = Vec::new();
                let most = if matches!(program.scoring, Scoring::Policy(_)) { most } else { u32::MAX };
                for pass in passes {
                    for begin in (0..pass.horizon).step_by(most as usize) {
                        chunks.push(Pass { begin, end: pass.horizon.min(begin.saturating_add(most)), ..*pass });
                    }
                }
                let sizes = Sizes::of(256, &chunks, problem);
                let sizes = self.0.map_or(sizes, |made| sizes.keeping(&made));
                let capacity = sizes.capacity();
                within(program, &chunks, problem, &capacity).unwrap_or_else(|error| panic!("{what}: {error}"));
                self.0 = Some(sizes);
                refuses_less(program, &chunks, problem, &capacity);
            }
        }
    }

    /// Asserts that the check fails if any buffer that is addressed is empty.
    fn refuses_less(program: &Program, chunks: &[Pass], problem: &Problem<'_>, capacity: &Capacity) {
        let refused = |capacity: Capacity| within(program, chunks, problem, &capacity).is_err();
        assert!(refused(Capacity { inputs: 0, ..*capacity }));
        assert!(refused(Capacity { scores: 0, ..*capacity }) && refused(Capacity { log_weights: 0, ..*capacity }));
        assert!(refused(Capacity { partials: 0, ..*capacity }) && refused(Capacity { nominal: 0, ..*capacity }));
        assert!(refused(Capacity { summaries: 0, ..*capacity }));
        assert_eq!(refused(Capacity { fields: 0, ..*capacity }), problem.fields.len() > 0);
        let saved = chunks[0].has(GIVEN) || matches!(program.scoring, Scoring::Policy(_));
        assert_eq!(refused(Capacity { rows: 0, ..*capacity }), saved);
    }

    fn engines() -> Vec<Engine> {
        let rows = [RowMemory::Auto, RowMemory::Stored, RowMemory::Redrawn];
        let on = |rows| Engine::with_options(EngineOptions { backend: Backend::Cpu, rows, ..Default::default() });
        rows.map(|rows| on(rows).expect("there is a CPU")).into()
    }

    /// Runs a planner through a random sequence of all its operations.
    fn planner<A: Algorithm<2> + PartialEq>(seed: u64, options: impl Fn(&mut Dice) -> A) {
        let (mut dice, engines) = (Dice(Random::new(seed)), engines());
        let mut planner = loop {
            // Some options are rejected, since the model reads more than they provide.
            if let Ok(planner) = Planner::new(&engines[0], Needy, options(&mut dice)) {
                break planner;
            }
        };
        let (mut buffers, mut plans) = (Buffers::default(), 0);
        for step in 0..60 {
            let before = planner.options().clone();
            let (x, samples, horizon) = ([dice.0.between(-1.0, 1.0)], before.samples(), before.task().horizon);
            let choice = dice.below(12);
            let refused = match choice {
                0 => {
                    let count = dice.below(5);
                    planner.set_params(&dice.numbers(count)).is_err()
                }
                1 => {
                    let References { values, columns } = dice.references();
                    planner.set_references(&values, columns).is_err()
                }
                2 => planner.set_references(&dice.numbers(6), 1 + dice.0.bits() as usize % 7).is_err(),
                3 => {
                    let index = dice.below(5);
                    planner.set_field(index, dice.grid()).is_err()
                }
                4 => planner.set_options(options(&mut dice)).is_err(),
                5 => planner.resize(dice.below(14), dice.below(150)).is_err(),
                6 => {
                    buffers = Buffers::default();
                    planner.move_to(&engines[dice.below(3)]).is_err()
                }
                7 => planner.set_controls(&vec![[0.1, -0.1]; dice.below(14)]).is_err(),
                8 => {
                    planner.shift(dice.below(3));
                    false
                }
                9 => planner.plan_rows(&x, &dice.numbers(samples * horizon * 2)).is_err(),
                10 => planner.plan_first(&x, dice.below(4)).is_err(),
                _ => planner.plan(&x).is_err(),
            };
            let what = format!("seed {seed}, step {step}, choice {choice}");
            if refused {
                assert!(*planner.options() == before, "{what} was refused and changed something");
            }
            for given in [false, true] {
                planner.work(given, |program, passes, problem| buffers.hold(&what, program, passes, problem));
            }
            if !refused && choice >= 9 {
                plans += 1;
                let samples = planner.samples().unwrap_or_else(|error| panic!("{what}: {error}"));
                let sum = samples.weights().iter().sum::<f32>();
                assert!((sum - 1.0).abs() < 1e-4, "{what}: weights sum to {sum}");
            }
        }
        assert!(plans > 5);
        // A planner built directly with these options computes the same result.
        let mut twin = Planner::new(planner.engine(), Needy, planner.options().clone()).expect("it was accepted");
        planner.reset();
        let [found, expected] = [&mut planner, &mut twin].map(|planner| planner.plan(&[0.3]).cloned());
        let bits = |plan: Plan<1, 2>| (plan.controls().to_vec(), plan.states().to_vec(), plan.cost());
        assert_eq!(found.map(bits), expected.map(bits), "seed {seed}");
    }

    #[test]
    fn whatever_is_done_to_a_planner_its_kernels_stay_within_their_buffers() {
        for seed in 0..12 {
            planner(seed, Dice::mppi);
            planner(seed, Dice::diffusion);
        }
    }

    #[test]
    fn whatever_is_done_to_a_fleet_its_kernels_stay_within_their_buffers() {
        for seed in 0..12 {
            let (mut dice, engines) = (Dice(Random::new(seed)), engines());
            let problems = 1 + dice.below(5);
            let mut fleet = loop {
                // Some options are refused, because the model reads more inputs than they have.
                if let Ok(fleet) = Fleet::new(&engines[0], Needy, dice.diffusion(), problems) {
                    break fleet;
                }
            };
            let (mut buffers, mut plans) = (Buffers::default(), 0);
            for step in 0..40 {
                let (choice, problem) = (dice.below(7), dice.below(6));
                let what = format!("seed {seed}, step {step}, choice {choice}");
                match choice {
                    0 => {
                        let count = dice.below(5);
                        let set = fleet.set_params(problem, &dice.numbers(count));
                        assert_eq!(set.is_ok(), problem < problems && count >= 2, "{what}: {set:?}");
                    }
                    1 => {
                        let References { values, columns } = dice.references();
                        let set = fleet.set_references(problem, &values, columns);
                        assert_eq!(set.is_ok(), problem < problems, "{what}: {set:?}");
                    }
                    2 => drop(fleet.set_options(dice.diffusion())),
                    3 => drop(fleet.resize(dice.below(14), dice.below(150))),
                    4 => {
                        buffers = Buffers::default();
                        fleet.move_to(&engines[dice.below(3)]).expect("there is a CPU");
                    }
                    _ => {
                        let states: Vec<_> = (0..problems).map(|_| [dice.0.between(-1.0, 1.0)]).collect();
                        let planned = fleet.plan(&states).expect("the CPU does not fail");
                        let worked: Vec<_> = planned.iter().map(|plan| plan.is_ok()).collect();
                        plans += 1;
                        for (i, worked) in worked.into_iter().enumerate() {
                            assert_eq!(fleet.samples(i).is_ok(), worked, "{what}, problem {i}");
                        }
                    }
                }
                fleet.planner().work(false, |program, passes, problem| buffers.hold(&what, program, passes, problem));
            }
            assert!(plans > 5);
        }
    }

    /// The checks refuse inputs of a fleet that are not at the offsets that its passes state.
    #[test]
    fn groups_of_a_fleet_that_do_not_fit_are_refused() {
        let options = DiffusionOptions {
            task: Task { params: vec![0.0; 2], ..Default::default() },
            chains: 2,
            ..Default::default()
        };
        let mut fleet = Fleet::new(&engines()[0], CacheLine, options, 3).expect("good options");
        fleet.planner().work(false, |program, passes, problem| {
            assert_eq!(places(program, passes, problem), Ok(()));
            let capacity = Sizes::of(256, passes, problem).capacity();
            assert_eq!(within(program, passes, problem, &capacity), Ok(()));
            let changed = |change: fn(&mut Pass)| {
                let mut passes = passes.to_vec();
                passes.iter_mut().for_each(change);
                passes
            };
            let wrong: [fn(&mut Pass); 5] = [
                |pass| pass.chains = 1,
                |pass| pass.chains = 0,
                |pass| pass.chains = 4,
                |pass| pass.inputs_stride += 1,
                |pass| pass.flags &= !FLEET,
            ];
            for (i, passes) in wrong.map(changed).iter().enumerate() {
                assert!(places(program, passes, problem).is_err(), "change {i}");
            }
            for change in [wrong[0], wrong[1], wrong[3]] {
                assert!(within(program, &changed(change), problem, &capacity).is_err());
            }
        });
    }

    #[test]
    fn whatever_is_done_to_chains_their_kernels_stay_within_their_buffers() {
        for seed in 0..12 {
            let (mut dice, engines) = (Dice(Random::new(seed)), engines());
            let schedule = Schedule::Geometric { levels: 2 + dice.below(3), smallest: 0.2, largest: 1.0 };
            let options = DiffusionSamplerOptions {
                chains: 1 + dice.below(5),
                samples: 1 + dice.below(150),
                process: ReverseProcess { schedule, ..Default::default() },
                params: dice.numbers(2),
                fields: dice.grids(),
                ..Default::default()
            };
            let (width, rows) = (1 + dice.below(4), 1 + dice.below(150));
            let data = dice.numbers(rows * width);
            let chains = |data: &Option<Vec<f32>>, options: DiffusionSamplerOptions| match data {
                Some(data) => DiffusionSampler::of_data(&engines[0], data, width, options),
                None => DiffusionSampler::of_energy(&engines[0], Hill, options),
            };
            for data in [None, Some(data)] {
                let mut diffusion = chains(&data, options.clone()).expect("good options");
                let (mut buffers, mut guide) = (Buffers::default(), None);
                for step in 0..40 {
                    let choice = dice.below(5);
                    let what = format!("seed {seed}, step {step}, choice {choice}");
                    match choice {
                        0 => {
                            let params = {
                                let count = dice.below(9);
                                dice.numbers(count)
                            };
                            let set = diffusion.set_params(&params);
                            assert_eq!(set.is_ok(), data.is_none() && params.len() >= 2, "{what}: {set:?}");
                            assert!(set.is_ok() || set.is_err_and(|error| error.field == "params"), "{what}");
                        }
                        1 => {
                            let count = if dice.chance() { rows } else { rows + 3 };
                            let rewards = dice.numbers(count);
                            let guided = diffusion.guide(&rewards);
                            assert_eq!(guided.is_ok(), data.is_some() && rewards.len() == rows, "{what}: {guided:?}");
                            if guided.is_ok() {
                                guide = Some(rewards);
                            }
                        }
                        2 => diffusion.reset(),
                        3 => {
                            let numbers = options.chains * if data.is_some() { width } else { 2 };
                            diffusion.sample_from(&dice.numbers(numbers)).map(drop).expect("a start");
                        }
                        _ => diffusion.sample().map(drop).expect("finite energies"),
                    }
                    diffusion.work(|program, passes, problem| buffers.hold(&what, program, passes, problem));
                }
                let mut twin = chains(&data, diffusion.options().clone()).expect("good options");
                if let Some(rewards) = guide {
                    twin.guide(&rewards).expect("good rewards");
                }
                diffusion.reset();
                let [found, expected] =
                    [diffusion, twin].map(|mut chains| chains.sample().expect("finite energies").values().to_vec());
                assert_eq!(found, expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn whatever_is_done_to_learners_their_kernels_stay_within_their_buffers() {
        for seed in 0..12 {
            let (mut dice, engines) = (Dice(Random::new(seed)), engines());
            let rows = if dice.chance() {
                let episodes = 1 + dice.below(3);
                Estimator::ParameterSpace { sigma: Anneal::from(0.1), antithetic: dice.chance(), episodes }
            } else {
                let action_noise = [ActionNoise::Fixed, ActionNoise::Learned { least: 0.1 }][dice.below(2)];
                Estimator::ScoreFunction { std: [0.5], action_noise, antithetic: dice.chance() }
            };
            let options = PolicyGradientOptions {
                task: Task {
                    horizon: 1 + dice.below(20),
                    limits: dice.limits(),
                    params: {
                        let count = 2 + dice.below(3);
                        dice.numbers(count)
                    },
                    references: Some(dice.references()),
                    fields: dice.grids(),
                    ..Default::default()
                },
                samples: 1 + dice.below(150),
                learners: 1 + dice.below(3),
                estimator: rows,
                ..Default::default()
            };
            let starts = |random: &mut Random, params: &mut [f32]| {
                params[1] = random.uniform();
                [random.normal(), 0.0]
            };
            let new = || PolicyGradient::<2, 1, _, _>::new(&engines[0], Mass, LinearFeedback, starts, options.clone());
            let mut training = new().expect("good options");
            let mut saved = Vec::new();
            training.save(&mut saved).expect("memory takes it");
            let mut buffers = Buffers::default();
            for step in 0..20 {
                let (choice, learner) = (dice.below(5), dice.below(4));
                let what = format!("seed {seed}, step {step}, choice {choice}");
                match choice {
                    0 => {
                        let count = 2 + dice.below(3);
                        let set = training.set_theta(learner, &dice.numbers(count));
                        assert_eq!(set.is_ok(), learner < options.learners && count == 3, "{what}: {set:?}");
                    }
                    1 => training.resume(&saved[..]).expect("its own"),
                    2 => {
                        saved.clear();
                        training.save(&mut saved).expect("memory takes it");
                    }
                    3 => drop(training.evaluate(learner, 2, 1)),
                    // With few rows the mean may be invalid, so errors are ignored.
                    _ => drop(training.step().map(drop)),
                }
                training.work(|program, passes, problem| buffers.hold(&what, program, passes, problem));
            }
            training
                .save({
                    saved.clear();
                    &mut saved
                })
                .expect("memory takes it");
            let mut twin = new().expect("good options");
            twin.resume(&saved[..]).expect("of the same sizes");
            let [found, expected] = [training, twin].map(|mut training| training.step().map(|p| p[0].mean_return));
            assert_eq!(found, expected, "seed {seed}");
        }
    }

    /// Regression test: `DiffusionSampler::set_params` once moved the inputs of a data set's chains.
    #[test]
    fn inputs_that_have_moved_are_refused() {
        let options = DiffusionSamplerOptions { chains: 2, ..Default::default() };
        let mut diffusion =
            DiffusionSampler::of_data(&engines()[0], &[-1.0, 0.0, 1.0], 1, options).expect("good options");
        diffusion.work(|program, passes, problem| {
            assert_eq!(places(program, passes, problem), Ok(()));
            let layout = Layout { params: 1, ..problem.layout };
            let moved = Problem { layout, ..*problem };
            assert!(places(program, passes, &moved).is_err());
            let starts = layout.table() as u32;
            let passes: Vec<_> = passes.iter().map(|pass| Pass { starts, references: starts, ..*pass }).collect();
            assert!(places(program, &passes, problem).is_err());
            assert!(places(program, &passes, &moved).is_err(), "the rewards end where they did");
            let capacity = Sizes::of(256, &passes, &moved).capacity();
            assert!(within(program, &passes, &moved, &capacity).is_err(), "the last one is beyond the buffer");
        });
    }
}
