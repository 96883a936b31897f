//! [`Stream`] separates the purposes of noise, so that no two of them share a counter under one seed.

/// A purpose of noise: the upper eight bits of the counter's last word, whose lower bits are the number of the problem.
/// Twins: `STREAM` in `shaders/step.wgsl` and `ACTIONS` in `shaders/score/episode.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Stream {
    /// Rows of a pass: perturbed controls or perturbed parameters of a policy.
    Rows = 0,
    /// Noise that a step adds.
    Step = 1 << 24,
    /// Noise on the actions of an episode.
    Actions = 2 << 24,
    /// Initial values of the chains of a reverse process.
    Chains = 3 << 24,
    /// Numbers for the host: [`Random`](crate::lang::random::Random). Its counter has no problem in this word.
    Host = 4 << 24,
}

impl Stream {
    /// The last word of the counter for problem `problem`, which is below 2²⁴.
    #[inline(always)]
    pub(crate) const fn word(self, problem: u32) -> u32 {
        self as u32 | problem
    }
}

/// A purpose of the numbers that a training draws on the host: the upper two bits of the stream of a
/// [`Random`](crate::lang::random::Random), whose lower bits are the number of the learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum HostStream {
    /// Initial states of the episodes of an iteration.
    Starts = 0,
    /// Initial parameters.
    Initial = 1 << 30,
    /// Initial states of the episodes of an evaluation.
    Evaluation = 2 << 30,
}

impl HostStream {
    /// The stream of learner `learner`, which is below 2³⁰.
    pub(crate) const fn of(self, learner: u32) -> u32 {
        self as u32 | learner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::pass::MAX_PROBLEMS;

    /// Asserts that purposes whose values are `words` never share a counter word, whichever problems below 2^`bits`
    /// they have.
    fn assert_apart(words: &[u32], bits: u32) {
        assert!(MAX_PROBLEMS <= 1 << bits, "every problem fits the lower bits");
        for (i, word) in words.iter().enumerate() {
            assert_eq!(word & ((1 << bits) - 1), 0, "the lower bits of {word:#x} are the problem's");
            for other in &words[..i] {
                assert_ne!(word >> bits, other >> bits, "{word:#x} and {other:#x} differ in the upper bits");
            }
        }
    }

    #[test]
    fn no_two_streams_share_a_counter() {
        use Stream::{Actions, Chains, Host, Rows, Step};
        let all = [Rows, Step, Actions, Chains, Host];
        // The match has no wildcard: a new stream fails to compile until it is listed here.
        let count = |stream: Stream| match stream {
            Rows | Step | Actions | Chains | Host => 5,
        };
        assert_eq!(all.len(), count(Rows));
        assert_apart(&all.map(|stream| stream as u32), 24);
    }

    #[test]
    fn no_two_purposes_of_a_training_share_a_stream_of_the_host() {
        use HostStream::{Evaluation, Initial, Starts};
        assert_apart(&[Starts as u32, Initial as u32, Evaluation as u32], 30);
        assert_eq!((Initial.of(3), Evaluation.of(0), Starts.of(7)), (0x4000_0003, 0x8000_0000, 7));
    }

    #[test]
    fn shaders_have_the_same_streams() {
        for (source, name, stream) in [
            (include_str!("../../shaders/step.wgsl"), "STREAM", Stream::Step),
            (include_str!("../../shaders/score/episode.wgsl"), "ACTIONS", Stream::Actions),
        ] {
            let declaration = format!("const {name} = {:#x}u;", stream as u32);
            assert!(source.contains(&declaration), "{declaration}");
        }
    }
}
