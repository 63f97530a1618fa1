import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCurrent } from './isa-doc.ts';

test('docs/isa.md is what the instruction table says', () => {
  assert.ok(isCurrent(), 'docs/isa.md is stale: run node scripts/isa-doc.ts');
});
