// Writes docs/cli.md from the table of flags: `npm run build:ts && node scripts/cli-docs.mjs`.

import { writeFileSync } from 'node:fs';
import { cliPage } from '../dist/server/cli-page.js';

writeFileSync(new URL('../docs/cli.md', import.meta.url), cliPage());
