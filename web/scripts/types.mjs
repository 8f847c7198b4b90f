/* Makes src/api/schema.ts from the server's own description:  node scripts/types.mjs [FILE|URL]
 * (default ../build/openapi.json). Only the shapes that the native API uses are kept: the other
 * surfaces are not for the UI. */
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import openapiTS, { astToString } from 'openapi-typescript'

const from = process.argv[2] ?? fileURLToPath(new URL('../../build/openapi.json', import.meta.url))
const text = /^https?:/.test(from) ? await (await fetch(from)).text() : await readFile(from, 'utf8')
const whole = JSON.parse(text)

const kept = {}
function keep(node) {
  if (Array.isArray(node)) node.forEach(keep)
  else if (node && typeof node === 'object') {
    for (const [key, value] of Object.entries(node)) {
      const name = key === '$ref' && typeof value === 'string' ? /^#\/components\/schemas\/(.+)$/.exec(value)?.[1] : null
      if (name && !(name in kept)) {
        kept[name] = whole.components.schemas[name]
        keep(kept[name])
      } else keep(value)
    }
  }
}
for (const [path, operations] of Object.entries(whole.paths)) {
  if (path.startsWith('/v1/')) keep({ ...operations })
}
// Answers of errors are named once under responses.
keep(Object.fromEntries(Object.entries(whole.components.responses ?? {})))
const schemas = Object.fromEntries(Object.keys(kept).sort().map((name) => [name, kept[name]]))
const ast = await openapiTS({ openapi: whole.openapi, info: whole.info, paths: {}, components: { schemas } }, { defaultNonNullable: false })
const head = '/* Made by `npm run types` from the server\'s /openapi.json; not edited by hand. */\n'
const body = astToString(ast)
  .split('\n')
  .filter((line) => !/^\s*\/\*\*? This file was|^ \* (This file was|Do not make)/.test(line))
  .join('\n')
await writeFile(fileURLToPath(new URL('../src/api/schema.ts', import.meta.url)), head + body)
console.log(`src/api/schema.ts: ${Object.keys(schemas).length} shapes`)
