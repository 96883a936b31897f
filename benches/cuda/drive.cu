// MPPI-Generic's half of the comparison on a CUDA card: one MPPI update of a robot on two wheels with a costmap, timed.
//
// The task is `drive` of examples/peer, number by number. Prints library,device,task,N,T,median_ms,min_ms for each N.
// With --check DIR it compares its dynamics and cost with the rows and costs that `peer --task drive --dump DIR` wrote.

#include <mppi/controllers/MPPI/mppi_controller.cuh>
#include <mppi/cost_functions/cost.cuh>
#include <mppi/dynamics/dynamics.cuh>
#include <mppi/feedback_controllers/DDP/ddp.cuh>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace peer
{
// The task itself, in plain functions, so that the check runs what is timed.

constexpr int STEPS = 100;
constexpr float DT = 0.02f, SIGMA = 0.2f, LOW = -0.35f, HIGH = 0.5f, LAMBDA = 1.0f;
constexpr float RADIUS = 1.0f, TRACK = 1.0f;
constexpr float GOAL_X = 10.0f, GOAL_Y = 10.0f;
constexpr float W_GOAL = 0.1f, W_HEADING = 0.1f, W_MAP = 10.0f;
constexpr int CELLS = 110;
constexpr float CELL = 0.1f, OUTSIDE = 1.0f;
constexpr float DISCS[][3] = {{8.0f, 8.0f, 0.4f}, {4.0f, 6.0f, 0.5f}, {6.0f, 5.0f, 0.3f}};

// The pose (x, y, heading) after a step with these wheel rates, by the midpoint rule.
__host__ __device__ inline void roll(const float* pose, float left, float right, float dt, float* next)
{
  const float distance = 0.5f * RADIUS * (left + right) * dt;
  const float turn = RADIUS / TRACK * (right - left) * dt;
  const float middle = pose[2] + 0.5f * turn;
  next[0] = pose[0] + distance * cosf(middle);
  next[1] = pose[1] + distance * sinf(middle);
  next[2] = pose[2] + turn;
}

// The cost of a pose, given the value of the map there.
__host__ __device__ inline float pose_cost(const float* pose, float map)
{
  const float dx = pose[0] - GOAL_X, dy = pose[1] - GOAL_Y;
  const float whole = 6.28318531f;
  const float heading = pose[2] - whole * rintf(pose[2] / whole);
  return W_GOAL * (dx * dx + dy * dy) + W_HEADING * heading * heading + W_MAP * map;
}

__host__ __device__ inline bool is_outside(float x, float y)
{
  return !(x >= 0.0f && x <= CELLS * CELL && y >= 0.0f && y <= CELLS * CELL);
}

// The costmap, row by row from the smallest y: 1 in the cells whose center lies in a disc.
std::vector<float> costmap()
{
  std::vector<float> values;
  for (int j = 0; j < CELLS; j++)
  {
    for (int i = 0; i < CELLS; i++)
    {
      const float x = (i + 0.5f) * CELL, y = (j + 0.5f) * CELL;
      bool inside = false;
      for (const auto& disc : DISCS)
      {
        inside = inside || std::hypot(x - disc[0], y - disc[1]) <= disc[2];
      }
      values.push_back(inside ? 1.0f : 0.0f);
    }
  }
  return values;
}

// Bilinear between the centers of cells; the outermost cell holds up to the border.
float look_up(const std::vector<float>& values, float x, float y)
{
  if (is_outside(x, y))
  {
    return OUTSIDE;
  }
  const float gx = std::min(std::max(x / CELL - 0.5f, 0.0f), CELLS - 1.0f);
  const float gy = std::min(std::max(y / CELL - 0.5f, 0.0f), CELLS - 1.0f);
  const int i = std::min(static_cast<int>(gx), CELLS - 2), j = std::min(static_cast<int>(gy), CELLS - 2);
  const float fx = gx - i, fy = gy - j;
  const float* at = &values[j * CELLS + i];
  const float low = at[0] + fx * (at[1] - at[0]), high = at[CELLS] + fx * (at[CELLS + 1] - at[CELLS]);
  return low + fy * (high - low);
}

// The same lookup by the GPU's texture unit, as MPPI-Generic reads its own maps. Its interpolation weights have eight
// bits. A texel's center is at a half, as a cell's is here.
__device__ inline float look_up(cudaTextureObject_t map, float x, float y)
{
  return is_outside(x, y) ? OUTSIDE : tex2D<float>(map, x / CELL, y / CELL);
}

void must(cudaError_t status)
{
  if (status != cudaSuccess)
  {
    std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(status));
    std::exit(EXIT_FAILURE);
  }
}

cudaTextureObject_t make_texture(const std::vector<float>& values)
{
  const cudaChannelFormatDesc format = cudaCreateChannelDesc<float>();
  const size_t row = CELLS * sizeof(float);
  cudaArray_t array;
  must(cudaMallocArray(&array, &format, CELLS, CELLS));
  must(cudaMemcpy2DToArray(array, 0, 0, values.data(), row, row, CELLS, cudaMemcpyHostToDevice));
  cudaResourceDesc resource = {};
  resource.resType = cudaResourceTypeArray;
  resource.res.array.array = array;
  cudaTextureDesc how = {};
  how.addressMode[0] = how.addressMode[1] = cudaAddressModeClamp;
  how.filterMode = cudaFilterModeLinear;
  how.readMode = cudaReadModeElementType;
  cudaTextureObject_t map = 0;
  must(cudaCreateTextureObject(&map, &resource, &how, nullptr));
  return map;
}

// The task as classes of MPPI-Generic.

struct DriveParams : public DynamicsParams
{
  enum class StateIndex : int
  {
    POS_X = 0,
    POS_Y,
    YAW,
    NUM_STATES
  };
  enum class ControlIndex : int
  {
    LEFT = 0,
    RIGHT,
    NUM_CONTROLS
  };
  enum class OutputIndex : int
  {
    POS_X = 0,
    POS_Y,
    YAW,
    NUM_OUTPUTS
  };
};

class Drive : public MPPI_internal::Dynamics<Drive, DriveParams>
{
public:
  Drive(cudaStream_t stream = nullptr) : MPPI_internal::Dynamics<Drive, DriveParams>(stream)
  {
    for (int i = 0; i < CONTROL_DIM; i++)
    {
      control_rngs_[i] = make_float2(LOW, HIGH);
    }
  }

  // The whole step, since the midpoint rule is not a state plus a derivative. Threads along y share a rollout: each
  // computes the step and writes its part of it.
  __device__ void step(float* state, float* next_state, float* state_der, float* control, float* output, float* theta_s,
                       const float t, const float dt)
  {
    float next[STATE_DIM];
    roll(state, control[0], control[1], dt, next);
    for (int i = threadIdx.y; i < STATE_DIM; i += blockDim.y)
    {
      next_state[i] = next[i];
      output[i] = next[i];
    }
  }

  // The step on the host, where the library rolls out the new plan.
  void step(Eigen::Ref<state_array> state, Eigen::Ref<state_array> next_state, Eigen::Ref<state_array> state_der,
            const Eigen::Ref<const control_array>& control, Eigen::Ref<output_array> output, const float t,
            const float dt)
  {
    float next[STATE_DIM];
    roll(state.data(), control[0], control[1], dt, next);
    for (int i = 0; i < STATE_DIM; i++)
    {
      next_state[i] = next[i];
      output[i] = next[i];
    }
  }

  // The derivative is for feedback controllers, of which none runs here; the library still compiles them.
  void computeDynamics(const Eigen::Ref<const state_array>& state, const Eigen::Ref<const control_array>& control,
                       Eigen::Ref<state_array> state_der)
  {
    derivative(state.data(), control.data(), state_der.data());
  }

  __device__ void computeDynamics(float* state, float* control, float* state_der, float* theta_s = nullptr)
  {
    derivative(state, control, state_der);
  }

  state_array stateFromMap(const std::map<std::string, float>& map) override
  {
    state_array state;
    state << map.at("POS_X"), map.at("POS_Y"), map.at("YAW");
    return state;
  }

private:
  __host__ __device__ static void derivative(const float* state, const float* control, float* state_der)
  {
    const float speed = 0.5f * RADIUS * (control[0] + control[1]);
    state_der[0] = speed * cosf(state[2]);
    state_der[1] = speed * sinf(state[2]);
    state_der[2] = RADIUS / TRACK * (control[1] - control[0]);
  }
};

struct DriveCostParams : public CostParams<Drive::CONTROL_DIM>
{
  cudaTextureObject_t map = 0;
  // The library divides the sum of a rollout's costs by its steps; λ is meant for the sum.
  float scale = STEPS;
};

class DriveCost : public Cost<DriveCost, DriveCostParams, DriveParams>
{
public:
  __device__ float computeStateCost(float* output, int timestep, float* theta_c, int* crash_status)
  {
    return params_.scale * pose_cost(output, look_up(params_.map, output[0], output[1]));
  }

  __device__ float terminalCost(float* output, float* theta_c)
  {
    return 0.0f;
  }
};

using Sampler = mppi::sampling_distributions::GaussianDistribution<Drive::DYN_PARAMS_T>;
using Feedback = DDPFeedback<Drive, STEPS>;

// The mapping of rollouts to threads.
struct Blocks
{
  dim3 dynamics, cost;
};

struct Times
{
  double median, least;
};

// Times `updates` updates from the same state, in milliseconds. The plan is kept and not shifted.
template <int ROLLOUTS>
Times measure(cudaTextureObject_t map, const Blocks& blocks, int warm_up, int updates)
{
  using Mppi = VanillaMPPIController<Drive, DriveCost, Feedback, STEPS, ROLLOUTS, Sampler>;
  Drive robot;
  DriveCost cost;
  DriveCostParams cost_params;
  cost_params.map = map;
  cost.setParams(cost_params);
  Feedback feedback(&robot, DT);
  Sampler::SAMPLING_PARAMS_T noise;
  for (int i = 0; i < Drive::CONTROL_DIM; i++)
  {
    noise.std_dev[i] = SIGMA;
  }
  noise.pure_noise_trajectories_percentage = 0.0f;
  Sampler sampler(noise);
  typename Mppi::TEMPLATED_PARAMS params;
  params.dt_ = DT;
  params.lambda_ = LAMBDA;
  params.alpha_ = 0.0f;
  params.num_timesteps_ = STEPS;
  params.num_iters_ = 1;
  params.seed_ = 0;
  params.dynamics_rollout_dim_ = blocks.dynamics;
  params.cost_rollout_dim_ = blocks.cost;
  // Allocated on the heap, since it is too large for the stack. It selects the faster of its two kernels here.
  std::unique_ptr<Mppi> mppi(new Mppi(&robot, &cost, &feedback, &sampler, params));

  const Drive::state_array start = Drive::state_array::Zero();
  std::vector<double> times;
  for (int i = 0; i < warm_up + updates; i++)
  {
    const auto clock = std::chrono::steady_clock::now();
    mppi->computeControl(start, 1);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - clock;
    if (i >= warm_up)
    {
      times.push_back(time.count());
    }
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[0]};
}

template <int ROLLOUTS>
void report(cudaTextureObject_t map, const std::string& device, int only, int updates)
{
  if (only != 0 && only != ROLLOUTS)
  {
    return;
  }
  // The published mapping, and simpler ones; the fastest is reported.
  const Blocks candidates[] = {
      {dim3(64, 4, 1), dim3(64, 1, 1)},
      {dim3(32, 1, 1), dim3(32, 1, 1)},
      {dim3(64, 1, 1), dim3(64, 1, 1)},
      {dim3(128, 1, 1), dim3(64, 1, 1)},
  };
  const Blocks* best = nullptr;
  double least = INFINITY;
  for (const Blocks& blocks : candidates)
  {
    const double median = measure<ROLLOUTS>(map, blocks, 20, 50).median;
    if (median < least)
    {
      least = median;
      best = &blocks;
    }
  }
  const Times times = measure<ROLLOUTS>(map, *best, 20, updates);
  std::fprintf(stderr, "%d rollouts: blocks of %u x %u for dynamics, %u x %u for costs\n", ROLLOUTS, best->dynamics.x,
               best->dynamics.y, best->cost.x, best->cost.y);
  std::printf("mppi-generic,%s,drive,%d,%d,%.4f,%.4f\n", device.c_str(), ROLLOUTS, STEPS, times.median, times.least);
  std::fflush(stdout);
}

// The check.

std::vector<float> read_floats(const std::string& path)
{
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file)
  {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(EXIT_FAILURE);
  }
  std::vector<float> values(static_cast<size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()), values.size() * sizeof(float));
  return values;
}

__global__ void costs_of(const float* rows, float3 start, cudaTextureObject_t map, int count, int steps, float* costs)
{
  const int k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k >= count)
  {
    return;
  }
  float pose[3] = {start.x, start.y, start.z}, next[3];
  float cost = 0.0f;
  for (int t = 0; t < steps; t++)
  {
    const float* wheels = &rows[(k * steps + t) * 2];
    roll(pose, wheels[0], wheels[1], DT, next);
    for (int i = 0; i < 3; i++)
    {
      pose[i] = next[i];
    }
    cost += pose_cost(pose, look_up(map, pose[0], pose[1]));
  }
  costs[k] = cost;
}

// The largest difference from `theirs`, relative.
float off(const std::vector<float>& ours, const std::vector<float>& theirs)
{
  float largest = 0.0f;
  for (size_t k = 0; k < theirs.size(); k++)
  {
    const float error = std::fabs(ours[k] - theirs[k]) / (1.0f + std::fabs(theirs[k]));
    // Written so that NaN is large.
    largest = error <= largest ? largest : error;
  }
  return largest;
}

std::vector<float> costs_on_host(const std::vector<float>& rows, const std::vector<float>& start, size_t count)
{
  const std::vector<float> values = costmap();
  const size_t steps = rows.size() / count / 2;
  std::vector<float> costs(count, 0.0f);
  for (size_t k = 0; k < count; k++)
  {
    float pose[3] = {start[0], start[1], start[2]}, next[3];
    for (size_t t = 0; t < steps; t++)
    {
      const float* wheels = &rows[(k * steps + t) * 2];
      roll(pose, wheels[0], wheels[1], DT, next);
      std::copy(next, next + 3, pose);
      costs[k] += pose_cost(pose, look_up(values, pose[0], pose[1]));
    }
  }
  return costs;
}

std::vector<float> costs_on_card(const std::vector<float>& rows, const std::vector<float>& start, size_t count)
{
  const int steps = static_cast<int>(rows.size() / count / 2);
  float *rows_d = nullptr, *costs_d = nullptr;
  must(cudaMalloc(&rows_d, rows.size() * sizeof(float)));
  must(cudaMalloc(&costs_d, count * sizeof(float)));
  must(cudaMemcpy(rows_d, rows.data(), rows.size() * sizeof(float), cudaMemcpyHostToDevice));
  const float3 from = make_float3(start[0], start[1], start[2]);
  costs_of<<<(count + 127) / 128, 128>>>(rows_d, from, make_texture(costmap()), static_cast<int>(count), steps, costs_d);
  must(cudaGetLastError());
  std::vector<float> costs(count);
  must(cudaMemcpy(costs.data(), costs_d, count * sizeof(float), cudaMemcpyDeviceToHost));
  must(cudaFree(rows_d));
  must(cudaFree(costs_d));
  return costs;
}

int check(const std::string& folder)
{
  const std::vector<float> start = read_floats(folder + "/start.f32"), rows = read_floats(folder + "/rows.f32");
  const std::vector<float> theirs = read_floats(folder + "/costs.f32");
  if (start.size() != 3 || theirs.empty() || rows.size() % (2 * theirs.size()) != 0)
  {
    std::fprintf(stderr, "%s does not hold an update of drive\n", folder.c_str());
    return EXIT_FAILURE;
  }
  const float host = off(costs_on_host(rows, start, theirs.size()), theirs);
  std::printf("largest difference of %zu costs on the host: %.1e relative\n", theirs.size(), host);
  const float card = off(costs_on_card(rows, start, theirs.size()), theirs);
  std::printf("on the card: %.1e relative\n", card);
  // A texture's 1/512 of a cell, times the map's weight, against the cost of the pose.
  const bool same = host < 1e-3f && card < 5e-3f;
  std::printf("%s", same ? "" : "they do not compute the same\n");
  return same ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace peer

int main(int count, char** words)
{
  int only = 0, updates = 1000;
  for (int i = 1; i < count; i += 2)
  {
    const std::string option = words[i];
    const char* value = i + 1 < count ? words[i + 1] : nullptr;
    if (value != nullptr && option == "--check")
    {
      return peer::check(value);
    }
    if (value != nullptr && option == "--samples" && std::atoi(value) > 0)
    {
      only = std::atoi(value);
    }
    else if (value != nullptr && option == "--updates" && std::atoi(value) > 0)
    {
      updates = std::atoi(value);
    }
    else
    {
      std::fprintf(stderr, "usage: drive [--samples N] [--updates COUNT] [--check DIR]\n");
      return EXIT_FAILURE;
    }
  }
  cudaDeviceProp properties;
  peer::must(cudaGetDeviceProperties(&properties, 0));
  std::string device = properties.name;
  std::replace(device.begin(), device.end(), ',', ' ');
  const cudaTextureObject_t map = peer::make_texture(peer::costmap());
  // The number of rollouts is a template parameter of the library.
  peer::report<128>(map, device, only, updates);
  peer::report<512>(map, device, only, updates);
  peer::report<1024>(map, device, only, updates);
  peer::report<2048>(map, device, only, updates);
  peer::report<4096>(map, device, only, updates);
  peer::report<8192>(map, device, only, updates);
  peer::report<16384>(map, device, only, updates);
  return EXIT_SUCCESS;
}
