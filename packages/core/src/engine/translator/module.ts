/** A batch of regions as one WebAssembly module, and what such modules import. */

import type { Row } from '../../isa/index.ts';
import { REGION } from '../../memory/layout.ts';
import { POOL_MEMORY } from '../../memory/routines.ts';
import { Module } from '../../wasm/index.ts';
import { REGION_TYPE } from '../interpreter.ts';
import { type ModuleParts, writeRegion } from './emit.ts';
import type { FloatHost } from './floats.ts';
import type { Region } from './region.ts';

/** Of a worker: regions are the same for every worker until they are instantiated. */
export interface RegionImports {
  readonly memory: WebAssembly.Memory;
  readonly table: WebAssembly.Table;
  /** Address of the worker's area. */
  readonly area: number;
  /** Functions of the interpreter's module by name: the bridge and the softfloat library. */
  readonly functions: Readonly<Record<string, unknown>>;
  readonly signatures: Signatures;
  readonly outOfLineOf: (row: Row) => number;
  readonly host: FloatHost;
}

type Types = readonly ('i32' | 'i64' | 'f32' | 'f64')[];
/** Parameters and results. */
export type Signatures = Readonly<Record<string, readonly [Types, Types]>>;

const BRIDGE = ['loadMiss', 'storeMiss', 'outOfLine'] as const;

/** What every module begins with, of regions with floating point or without. */
function makeBase(signatures: Signatures, float: boolean) {
  const module = new Module({ names: false });
  module.importMemory('host', 'memory', POOL_MEMORY);
  module.importTable('host', 'table', REGION.entries);
  const area = module.importGlobal('host', 'area', 'i32');
  const place = module.importGlobal('host', 'place', 'i32');
  const regionType = module.functionType(...REGION_TYPE);
  const functions = Object.fromEntries(
    Object.entries(signatures)
      .filter(([name]) => float || (BRIDGE as readonly string[]).includes(name))
      .map(([name, [params, results]]) => [name, module.importFunction('host', name, params, results)]),
  );
  const { loadMiss, storeMiss, outOfLine, ...soft } = functions;
  return {
    module,
    parts: { area, place, regionType, loadMiss: loadMiss!, storeMiss: storeMiss!, outOfLine: outOfLine!, soft },
  };
}

type Base = ReturnType<typeof makeBase>;
const bases = new WeakMap<Signatures, Map<boolean, Base>>();

function baseOf(signatures: Signatures, float: boolean): Base {
  const known = bases.get(signatures) ?? new Map<boolean, Base>();
  bases.set(signatures, known);
  const base = known.get(float) ?? makeBase(signatures, float);
  known.set(float, base);
  return base;
}

/** The module's bytes: depends on the regions and the host alone. */
export function encodeRegions(
  regions: readonly Region[],
  { signatures, outOfLineOf, host }: Pick<RegionImports, 'signatures' | 'outOfLineOf' | 'host'>,
): Uint8Array<ArrayBuffer> {
  const base = baseOf(
    signatures,
    regions.some((region) => region.float),
  );
  const module = base.module.fork();
  const parts: Omit<ModuleParts, 'index'> = { ...base.parts, outOfLineOf, host };
  module.element(
    parts.place,
    regions.map((region, index) =>
      module.function(`region${index}`, ...REGION_TYPE, (f, ...params) =>
        writeRegion(f, params, { ...parts, index }, region),
      ),
    ),
  );
  return module.encode();
}

/** Makes a module's functions callable on a worker, at `place` and behind. */
export function instantiate(module: WebAssembly.Module, imports: RegionImports, place: number): void {
  const { memory, table, area, functions } = imports;
  new WebAssembly.Instance(module, {
    host: { ...functions, memory, table, area, place } as WebAssembly.ModuleImports,
  });
}
