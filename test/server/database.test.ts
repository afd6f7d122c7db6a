// The file behind --store: made, found again, and refused when it is not ours.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { afterAll, expect, it } from 'vitest';
import { openDatabase } from '../../server/store/database.ts';
import { StoreError } from '../../server/store/store-error.ts';

const folder = mkdtempSync(join(tmpdir(), 'quire-store-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('opens a file that it made before', () => {
  const path = join(folder, 'own.db');
  openDatabase(path, 1e9).close();
  const again = openDatabase(path, 1e9);
  expect(again.pragma('synchronous', { simple: true })).toBe(2);
  expect(again.pragma('journal_mode', { simple: true })).toBe('wal');
  again.close();
});

it('refuses another program’s database, a file that is none, a newer version, and a folder that is not there', () => {
  const foreign = join(folder, 'foreign.db');
  new Sqlite(foreign).exec('CREATE TABLE mail (id)').close();
  const text = join(folder, 'text.db');
  writeFileSync(text, 'a letter, and no database at all. '.repeat(100));
  const newer = join(folder, 'newer.db');
  openDatabase(newer, 1e9).close();
  const raised = new Sqlite(newer);
  raised.pragma('user_version = 1000');
  raised.exec('CREATE TABLE IF NOT EXISTS later (id)').close();
  for (const [path, why] of [
    [foreign, 'another program'],
    [text, 'not a database'],
    [newer, 'version 1000'],
    [join(folder, 'none', 'a.db'), 'directory does not exist'],
  ]) {
    expect(() => openDatabase(path, 1e9)).toThrow(StoreError);
    expect(() => openDatabase(path, 1e9)).toThrow(why);
  }
});
