#!/usr/bin/env node
// The `braid` command: hands its arguments to src/main.ts on the right Node.
import { MAIN, runProgram } from './runtime.mjs';

await runProgram(MAIN, process.argv.slice(2));
