// The rules of the code base that types cannot express, as functions from source text to complaints.
// architecture.test.ts runs them on the whole project, and on bad samples that they must flag.
//
//   I1          the core reads no clock, randomness, environment or timer, and computes the same everywhere
//   direction   which folder may import which: FOLDERS below is the picture of the core
//   erasable    sources run as they are: nothing that needs more than deleting types
//   devices     every device folder has the same files
//
// Biome enforces part of I1 while one types (globals, package imports). The names of its list in biome.json are
// used here too; what it cannot see is added: members of Math, `**`, import.meta, locales, timers of AbortSignal.

import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { type Node, parseSync, visitorKeys } from 'oxc-parser';

/** A folder of packages/core/src: what it may import, and what it may import for types only. */
interface Folder {
  imports: string[];
  types?: string[];
}

/** The direction of imports in the core, lowest first. A folder may always import from itself. */
export const FOLDERS: Record<string, Folder> = {
  text: { imports: [] }, //                                    texts of guests: from bytes and back, shown safely
  check: { imports: [] }, //                                   what arguments of public calls may be
  state: { imports: [] }, //                                   plain records: as bytes, and checked
  wasm: { imports: [] }, //                                    writes WebAssembly; knows no RISC-V
  softfloat: { imports: ['wasm'] }, //                         IEEE 754 arithmetic, written in wasm
  isa: { imports: ['wasm', 'softfloat'] }, //                  one table: encoding, printer, semantics
  memory: { imports: ['wasm'] }, //                            frames, guest-physical maps, traced writes
  hart: { imports: ['state', 'wasm', 'memory', 'isa'] }, //    registers, CSRs, traps, translation of addresses
  engine: { imports: ['wasm', 'softfloat', 'isa', 'hart', 'memory'] }, // interpreter and translator, from isa
  devices: { imports: ['state'], types: ['memory', 'machine'] }, // see memory and the bus as interfaces only
  disk: { imports: ['memory'], types: ['devices'] }, //                what disks of forked machines are made of
  boot: { imports: ['memory'], types: ['machine'] }, //        loaders of ELF files and kernels, device tree
  firmware: { imports: ['state', 'hart', 'memory'], types: ['devices', 'machine'] }, // SBI
  machine: {
    imports: [
      'text',
      'check',
      'state',
      'wasm',
      'isa',
      'memory',
      'hart',
      'engine',
      'devices',
      'disk',
      'boot',
      'firmware',
      'agent',
    ],
  },
  branch: {
    imports: ['text', 'state', 'isa', 'boot', 'memory', 'hart', 'disk', 'engine', 'machine', 'agent'],
    types: ['devices'],
  }, // fork, explore, speculate, converge
  linux: { imports: ['text', 'hart', 'memory', 'machine'] }, // a guest's kernel, from outside: symbols, types, tasks, what they do
  gdb: { imports: ['text', 'isa', 'hart', 'memory', 'machine', 'linux'] }, // gdb's remote protocol, and machines as it sees them
  timeline: {
    imports: ['text', 'state', 'isa', 'memory', 'hart', 'disk', 'engine', 'machine', 'branch', 'agent', 'linux'],
    types: ['devices'],
  }, // recordings, replay, reverse execution, bisection
  trace: { imports: ['text', 'hart', 'machine', 'linux', 'branch'], types: ['engine'] }, // system calls and functions of guests' programs
  agent: { imports: ['text'] }, //                             the guest agent's protocol, a codec
};

/** The file set of every folder in packages/core/src/devices. */
const DEVICE_FILES = ['device.ts', 'state.ts', 'device.test.ts'];

/** Exact in every engine. The rest of Math is random, or rounded as each engine likes. */
const EXACT_MATH = new Set('abs ceil clz32 floor fround imul max min round sign sqrt trunc'.split(' '));

/** Members that read the host's clock or locale, whatever object they are called on. */
const HOST_MEMBERS: Record<string, string> = {
  toLocaleString: "the locale is the host's",
  toLocaleLowerCase: "the locale is the host's",
  toLocaleUpperCase: "the locale is the host's",
  localeCompare: "the locale is the host's",
};

export interface Complaint {
  file: string;
  line: number;
  message: string;
}

/** A source file: `path` is relative to the project, with `/`. */
export interface Source {
  path: string;
  text: string;
}

interface Import {
  specifier: string;
  typeOnly: boolean;
  offset: number;
}

type AnyNode = Node & Record<string, unknown>;

const CORE = 'packages/core/src/';

/** Tests, and the helpers that only tests use, live in the core but may use anything. */
function isTestCode(path: string): boolean {
  return path.endsWith('.test.ts') || path.startsWith(`${CORE}testing/`);
}

/** The host globals that biome.json denies the core, name -> reason. */
function deniedGlobals(biomeJson: string): Record<string, string> {
  for (const override of JSON.parse(biomeJson).overrides) {
    const names = override.linter?.rules?.style?.noRestrictedGlobals?.options?.deniedGlobals;
    if (names) return names;
  }
  throw new Error('biome.json denies the core no globals');
}

const DENIED = deniedGlobals(readFileSync(new URL('../biome.json', import.meta.url), 'utf8'));

/** Every complaint about one source file. `exists` answers for files of the project. */
export function checkSource(source: Source, exists: (path: string) => boolean): Complaint[] {
  const parsed = parseSync(source.path, source.text, { lang: 'ts', sourceType: 'module' });
  const lines = lineStarts(source.text);
  const complaints: Complaint[] = [];
  const complain = (offset: number, message: string) => {
    complaints.push({ file: source.path, line: lines.findLastIndex((start) => start <= offset) + 1, message });
  };
  for (const error of parsed.errors) complain(error.labels[0]?.start ?? 0, error.message);

  const program = parsed.program as unknown as AnyNode;
  checkErasable(program, complain);
  const imports = importsOf(program);
  for (const found of imports) checkImport(source.path, found, exists, complain);
  if (source.path.startsWith(CORE) && !isTestCode(source.path)) checkDeterminism(program, complain);
  return complaints;
}

type Complain = (offset: number, message: string) => void;

function checkErasable(program: AnyNode, complain: Complain): void {
  walk(program, (node) => {
    if (node.type === 'TSEnumDeclaration') complain(node.start, 'an enum is not erasable: use constants');
    if (node.type === 'TSModuleDeclaration') complain(node.start, 'a namespace is not erasable: use a module');
    if (node.type === 'TSParameterProperty') complain(node.start, 'a parameter property is not erasable');
    if (node.type === 'TSImportEqualsDeclaration') complain(node.start, 'import = is not erasable: use import');
    if (node.type === 'TSExportAssignment') complain(node.start, 'export = is not erasable: use export');
  });
}

/** I1 for one file of the core. */
function checkDeterminism(program: AnyNode, complain: Complain): void {
  const own = declaredNames(program);
  const isGlobal = (node: AnyNode, name: string) => node.type === 'Identifier' && node.name === name && !own.has(name);
  walk(program, (node, parent, key) => {
    if (node.type === 'Identifier' && !isName(parent, key)) {
      const name = node.name as string;
      if (Object.hasOwn(DENIED, name) && !own.has(name)) complain(node.start, `${name}: ${DENIED[name]}`);
      // Math is used as `Math.member` only: no alias, no destructuring, no computed member.
      if (isGlobal(node, 'Math') && !(parent?.type === 'MemberExpression' && key === 'object' && !parent.computed)) {
        complain(node.start, 'Math is used as Math.member only, so that its use can be checked (I1)');
      }
    }
    if (node.type === 'MemberExpression') {
      const object = node.object as AnyNode;
      const member = memberName(node);
      if (member === undefined) return;
      if (isGlobal(object, 'Math') && !EXACT_MATH.has(member) && !/^[A-Z0-9_]+$/.test(member)) {
        complain(node.start, `Math.${member} is not the same in every engine (I1)`);
      }
      if (isGlobal(object, 'AbortSignal') && member === 'timeout') {
        complain(node.start, 'AbortSignal.timeout is a timer (I1)');
      }
      if (Object.hasOwn(HOST_MEMBERS, member)) complain(node.start, `${member}: ${HOST_MEMBERS[member]} (I1)`);
    }
    const power = node.type === 'BinaryExpression' || node.type === 'AssignmentExpression';
    if (power && String(node.operator).startsWith('**') && !isExactPower(node)) {
      complain(node.start, '** is not the same in every engine, except between literals or bigints (I1)');
    }
    if (node.type === 'MetaProperty' && (node.meta as AnyNode).name === 'import') {
      complain(node.start, 'import.meta belongs to a host (I1)');
    }
  });
}

/** `2 ** 32`, or an operation in which a bigint literal shows that it is one on bigints. */
function isExactPower(node: AnyNode): boolean {
  const sides = [node.left as AnyNode, node.right as AnyNode];
  const isBigint = (side: AnyNode) => side.type === 'Literal' && typeof side.value === 'bigint';
  const isInteger = (side: AnyNode) => side.type === 'Literal' && Number.isInteger(side.value);
  return sides.some(isBigint) || sides.every(isInteger);
}

/** Whether an identifier only names something (a property, a label) and refers to no variable. */
function isName(parent: AnyNode | undefined, key: string): boolean {
  switch (parent?.type) {
    case 'MemberExpression':
      return key === 'property' && !parent.computed;
    case 'Property': // in { name }, key and value are both there and the value is the reference
    case 'PropertyDefinition':
    case 'AccessorProperty':
    case 'MethodDefinition':
    case 'TSPropertySignature':
    case 'TSMethodSignature':
    case 'TSAbstractMethodDefinition':
    case 'TSAbstractPropertyDefinition':
      return key === 'key' && !parent.computed;
    case 'ImportSpecifier':
      return key === 'imported';
    case 'ExportSpecifier':
      return key === 'exported';
    case 'TSQualifiedName':
      return key === 'right';
    case 'TSNamedTupleMember':
      return key === 'label';
    case 'TSIndexSignature': // [name: string]: T
      return key === 'parameters';
    case 'LabeledStatement':
    case 'BreakStatement':
    case 'ContinueStatement':
      return key === 'label';
    default:
      return false;
  }
}

/** `a.b` and `a['b']` -> 'b'. */
function memberName(node: AnyNode): string | undefined {
  const property = node.property as AnyNode;
  if (!node.computed) return property.name as string;
  return property.type === 'Literal' && typeof property.value === 'string' ? property.value : undefined;
}

/**
 * The names that a file declares anywhere. A denied name that is also declared passes here, whatever its scope:
 * Biome, which resolves scopes, looks at the same names.
 */
function declaredNames(program: AnyNode): Set<string> {
  const names = new Set<string>();
  const bind = (pattern: unknown): void => {
    const node = pattern as AnyNode | null | undefined;
    switch (node?.type) {
      case 'Identifier':
        names.add(node.name as string);
        break;
      case 'ObjectPattern':
        for (const property of node.properties as AnyNode[]) bind(property.value ?? property.argument);
        break;
      case 'ArrayPattern':
        for (const element of node.elements as AnyNode[]) bind(element);
        break;
      case 'AssignmentPattern':
        bind(node.left);
        break;
      case 'RestElement':
        bind(node.argument);
        break;
    }
  };
  walk(program, (node) => {
    for (const parameter of (node.params as AnyNode[] | undefined) ?? []) bind(parameter);
    if (/^(VariableDeclarator|Class|Function|TSInterface|TSTypeAlias|Import\w*Specifier)/.test(node.type)) {
      bind(node.id ?? node.local);
    }
    if (node.type === 'CatchClause') bind(node.param);
    if (node.type === 'TSTypeParameter') bind(node.name);
  });
  return names;
}

function checkImport(path: string, found: Import, exists: (path: string) => boolean, complain: Complain): void {
  const { specifier, offset } = found;
  const owner = /^packages\/[^/]+\//.exec(path)?.[0];
  if (!specifier.startsWith('.')) {
    if (owner === 'packages/core/' && !isTestCode(path)) {
      complain(offset, `the core imports nothing outside itself, not '${specifier}' (I1)`);
    }
    return;
  }
  const target = posix.join(posix.dirname(path), specifier);
  if (!exists(target)) {
    complain(offset, `'${specifier}' is not a file (imports of ours end with the file's extension)`);
    return;
  }
  if (owner && !target.startsWith(owner)) {
    complain(offset, `'${specifier}' leaves its package: use the other package's exports`);
  }
  if (!path.startsWith(CORE) || !target.startsWith(CORE) || isTestCode(path)) return;
  if (isTestCode(target)) {
    complain(offset, `'${specifier}' is for tests only`);
    return;
  }
  const from = folderOf(path);
  const to = folderOf(target);
  if (from === undefined || from === to) return; // files beside the folders are the package's face: they see all
  const allowed = FOLDERS[from];
  if (allowed === undefined) {
    complain(0, `packages/core/src/${from} is not in the table of folders (FOLDERS in scripts/architecture.ts)`);
  } else if (to === undefined) {
    complain(offset, `${from} may not import '${specifier}', the package's face`);
  } else if (!allowed.imports.includes(to) && !(found.typeOnly && allowed.types?.includes(to))) {
    const how = allowed.types?.includes(to) ? ' except for types (import type)' : '';
    complain(offset, `${from} may not import ${to}${how}: '${specifier}'`);
  }
}

/** `packages/core/src/isa/a/b.ts` -> 'isa'; undefined for a file directly in src. */
function folderOf(corePath: string): string | undefined {
  const rest = corePath.slice(CORE.length);
  return rest.includes('/') ? rest.slice(0, rest.indexOf('/')) : undefined;
}

/** Static, dynamic and type imports, and re-exports. A dynamic import of a computed name has specifier `(computed)`. */
function importsOf(program: AnyNode): Import[] {
  const found: Import[] = [];
  const add = (source: unknown, typeOnly: boolean) => {
    const node = source as AnyNode;
    const specifier = node.type === 'Literal' ? String(node.value) : '(computed)';
    found.push({ specifier, typeOnly, offset: node.start });
  };
  const allTypes = (specifiers: unknown, kind: string) => {
    const list = (specifiers ?? []) as AnyNode[];
    return list.length > 0 && list.every((specifier) => specifier[kind] === 'type');
  };
  walk(program, (node) => {
    switch (node.type as string) {
      case 'ImportDeclaration':
        add(node.source, node.importKind === 'type' || allTypes(node.specifiers, 'importKind'));
        break;
      case 'ExportNamedDeclaration':
        if (node.source) add(node.source, node.exportKind === 'type' || allTypes(node.specifiers, 'exportKind'));
        break;
      case 'ExportAllDeclaration':
        add(node.source, node.exportKind === 'type');
        break;
      case 'ImportExpression':
        add(node.source, false);
        break;
      case 'TSImportType':
        add(node.source, true);
        break;
    }
  });
  return found;
}

/** What is missing from the device folders, given every path of the project. */
export function checkDevices(paths: readonly string[]): Complaint[] {
  const all = new Set(paths);
  const prefix = `${CORE}devices/`;
  const inside = paths.filter((path) => path.startsWith(prefix)).map((path) => path.slice(prefix.length));
  const folders = new Set(inside.filter((path) => path.includes('/')).map((path) => path.slice(0, path.indexOf('/'))));
  return [...folders].flatMap((folder) =>
    DEVICE_FILES.filter((file) => !all.has(`${prefix}${folder}/${file}`)).map((file) => ({
      file: `${prefix}${folder}`,
      line: 0,
      message: `a device folder has ${DEVICE_FILES.join(', ')}: ${file} is missing`,
    })),
  );
}

function walk(node: AnyNode, visit: (node: AnyNode, parent: AnyNode | undefined, key: string) => void): void {
  const step = (current: AnyNode, parent: AnyNode | undefined, key: string) => {
    visit(current, parent, key);
    for (const childKey of visitorKeys[current.type] ?? []) {
      const child = current[childKey] as AnyNode | AnyNode[] | null | undefined;
      if (Array.isArray(child)) {
        for (const item of child) if (item) step(item, current, childKey);
      } else if (child) {
        step(child, current, childKey);
      }
    }
  };
  step(node, undefined, '');
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}
