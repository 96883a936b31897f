// Gives WGSL to Tint, the compiler of Chrome and Edge, through the Node bindings of Dawn, and makes every compute
// pipeline: node tint.mjs FOLDER. The exit status is 1 if a module or a pipeline is refused, and 3 if the bindings do
// not load here.
//
// Pipelines are made on the first adapter that Dawn accepts (VK_DRIVER_FILES chooses one, SwiftShader for example), or,
// if there is none, on Dawn's null adapter. That one parses, checks and lays out everything, but generates no code.
//
// `npm install webgpu` must have been run in the folder that NODE_MODULES names. Kernels with 64-bit integers are left
// out: WGSL has none, and Dawn refuses naga's extension.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(join(process.env.NODE_MODULES ?? '.', 'tint.mjs')));
const load = async () => import(pathToFileURL(require.resolve('webgpu')));
const { create, globals } = await load().catch((error) => {
  console.error(`error: Tint does not load here: ${error.message.split('\n')[0]}`);
  process.exit(3);
});
Object.assign(globalThis, globals);

const folder = process.argv[2];
const files = readdirSync(folder).filter((file) => file.endsWith('.wgsl') && !file.includes('.int64.')).sort();
if (files.length === 0) {
  console.error(`error: ${folder} holds no kernels`);
  process.exit(1);
}

const [gpu, withoutDriver] = [create([]), create(['backend=null'])];
const found = await gpu.requestAdapter();
const adapter = found ?? (await withoutDriver.requestAdapter());
const device = await adapter.requestDevice();
const name = found === null ? 'the null adapter' : adapter.info.description || adapter.info.vendor || 'an adapter';

// As in src/runtime/gpu/kernels.rs.
const buffer = (binding) => {
  if (binding === 0) return { type: 'uniform', hasDynamicOffset: true };
  return { type: binding <= 2 ? 'read-only-storage' : 'storage' };
};
const bindings = [...Array(9).keys()].map((binding) => ({
  binding,
  visibility: GPUShaderStage.COMPUTE,
  buffer: buffer(binding),
}));
const layout = device.createPipelineLayout({
  bindGroupLayouts: [device.createBindGroupLayout({ entries: bindings })],
});

let refused = 0;
let pipelines = 0;
const complain = (file, message) => {
  refused += 1;
  console.error(`${file}: ${message}`);
};
for (const file of files) {
  const code = readFileSync(join(folder, file), 'utf8');
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  await device.popErrorScope();
  const errors = messages.filter((message) => message.type === 'error');
  for (const { message, lineNum } of errors) {
    complain(file, `${message.split('\n')[0]} in line ${lineNum}: ${code.split('\n')[lineNum - 1]?.trim()}`);
  }
  if (errors.length > 0) continue;
  for (const [, entryPoint] of code.matchAll(/@compute\s+@workgroup_size\([^)]*\)\s*fn\s+(\w+)/g)) {
    try {
      await device.createComputePipelineAsync({ layout, compute: { module, entryPoint } });
      pipelines += 1;
    } catch (error) {
      complain(file, `the pipeline of ${entryPoint}: ${error.message.split('\n')[0]}`);
    }
  }
}
console.log(`Tint: ${files.length} modules, ${pipelines} pipelines on ${name}, ${refused} errors`);
process.exit(refused > 0 || pipelines < files.length ? 1 : 0);
