/* A browser goes from sign-in to a finished job, and cancels another one.
 *
 *   DROVER_TEST_URL, DROVER_TEST_EMAIL, DROVER_TEST_PASSWORD   the server to use
 *   DROVER_TEST_GPUS=1        GPUs that the test's jobs ask for (0)
 *   DROVER_TEST_MOCK=1        the server is web/mock: its faults are tested too
 *   DROVER_TEST_SHOTS=DIR     pictures of the pages, light, dark, Chinese and phone
 *   DROVER_TEST_FIRST=55      results already printed by who calls; the plan at the end counts them
 *   DROVER_TEST_MORE=1        the caller goes on: no plan
 *   CHROMIUM=/usr/bin/chromium
 *
 * Speaks TAP. Needs web/node_modules (npm ci in web/).
 */
import { mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(new URL('../../web/package.json', import.meta.url))
const { chromium } = require('playwright-core')

const base = (process.env.DROVER_TEST_URL ?? '').replace(/\/$/, '')
const email = process.env.DROVER_TEST_EMAIL ?? ''
const password = process.env.DROVER_TEST_PASSWORD ?? ''
const gpus = process.env.DROVER_TEST_GPUS ?? '0'
const mock = process.env.DROVER_TEST_MOCK === '1'
const shots = process.env.DROVER_TEST_SHOTS
if (!base || !email || !password) {
  console.log('1..0 # SKIP set DROVER_TEST_URL, DROVER_TEST_EMAIL and DROVER_TEST_PASSWORD')
  process.exit(0)
}
if (shots) mkdirSync(shots, { recursive: true })

let number = Number(process.env.DROVER_TEST_FIRST ?? 0)
let failures = 0
function ok(good, what, detail = '') {
  number++
  if (!good) failures++
  console.log(`${good ? 'ok' : 'not ok'} ${number} - ${what}${!good && detail ? `\n# ${detail}` : ''}`)
}
async function until(what, check, timeoutMs = 15000) {
  const end = Date.now() + timeoutMs
  let last
  while (Date.now() < end) {
    try {
      last = await check()
      if (last) {
        ok(true, what)
        return last
      }
    } catch (error) {
      last = error.message.split('\n')[0]
    }
    await new Promise((done) => setTimeout(done, 50))
  }
  ok(false, what, `last seen: ${last}`)
  if (shots) await page.screenshot({ path: `${shots}/failed-${number}.png` })
  return null
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
})
const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: 'en-GB', colorScheme: 'light' })
const page = await context.newPage()
const complaints = []
let faultsExpected = false
page.on('pageerror', (error) => complaints.push(`error: ${error.message}`))
page.on('console', (message) => {
  if (message.type() !== 'error' || faultsExpected) return
  // A refused password is an answer, not a fault.
  if (/status of 401/.test(message.text())) return
  complaints.push(`console: ${message.text()}`)
})
let liveLines = 0
page.on('websocket', (socket) =>
  socket.on('framereceived', ({ payload }) => {
    if (String(payload).includes('"job_log"')) liveLines++
  }),
)
const text = (selector) => page.locator(selector).first().innerText({ timeout: 1000 })
const path = () => new URL(page.url()).pathname + new URL(page.url()).search
const shot = async (name) => {
  if (!shots) return
  await page.waitForTimeout(350)
  await page.screenshot({ path: `${shots}/${name}.png` })
}
/* What was asked for is there; no placeholder is left. */
const settled = () => page.waitForFunction(() => document.querySelectorAll('.skeleton').length === 0, null, { timeout: 10000, polling: 30 })
const state = () => page.locator('[data-testid=job-state]').getAttribute('data-state', { timeout: 1000 })
const fault = (name) => fetch(`${base}/mock/${name}`, { method: 'POST' })

async function signIn() {
  await page.fill('input[name=email]', email)
  await page.fill('input[name=password]', password)
  await page.click('[data-testid=sign-in]')
}

try {
  /* ---- sign-in ---- */
  await page.goto(`${base}/jobs?state=active`)
  await page.locator('form, .frame').first().waitFor()
  const asked = await page.locator('input[name=password]').isVisible()
  if (!asked) await page.goto(`${base}/sign-in?to=${encodeURIComponent('/jobs?state=active')}`)
  await shot('sign-in')
  await page.fill('input[name=email]', email)
  await page.fill('input[name=password]', 'certainly-not-this-one')
  await page.click('[data-testid=sign-in]')
  await until('a wrong password is refused with a sentence', async () => (await text('[role=alert]')).length > 10)
  await signIn()
  await until('after sign-in the address that was asked for opens', () => path() === '/jobs?state=active')

  /* ---- overview ---- */
  await page.click('nav >> text=Overview')
  await until('the overview answers three questions', async () => (await page.locator('.answer').count()) === 3 && (await page.locator('.skeleton').count()) === 0)
  await shot('overview-light')
  await page.click('[data-testid=n-queued]')
  await until('a number leads to the list that it counts', () => path() === '/jobs?state=queued')
  await page.goBack()

  /* ---- submit ---- */
  await page.keyboard.press('n')
  await page.locator('[data-testid=command]').waitFor()
  await page.fill('[data-testid=command]', `sh -c 'for i in 1 2 3 4 5 6; do echo "tick $i"; sleep 0.4; done`)
  await until('an open quote is reported', async () => /single quote/.test(await text('#argv')))
  await page.fill('[data-testid=command]', `sh -c 'for i in 1 2 3 4 5 6; do echo "tick $i"; sleep 0.4; done'`)
  await until('the command is shown word by word', async () => (await page.locator('[data-testid=argv] li').count()) === 3)
  const gpuField = page.locator('#gpus')
  await gpuField.fill(gpus)
  await gpuField.blur()
  await page.locator('#name').fill('browser-test')
  await until('the same command line is offered', async () => {
    const line = await text('[data-testid=equivalent] pre')
    return line.includes('drover submit --name browser-test') && line.includes("-- sh -c 'for i in 1 2 3")
  })
  await shot('submit')
  await page.locator('[data-testid=submit]').click()
  await until('submitting opens the job', () => /^\/jobs\/j-/.test(path()))
  const first = path().split('/')[2]

  /* ---- watch it ---- */
  await until('its output appears while it runs', async () => /tick 1/.test(await text('[data-testid=log]')))
  await shot('job-running')
  await until('it completes, and the page says so by itself', async () => (await state()) === 'completed', 40000)
  await until('the output is whole', async () => /tick 6/.test(await text('[data-testid=log]')))
  ok(liveLines > 0, 'it came by the live connection', 'no job_log frame was seen')
  await until('one sentence says why', async () => (await text('.sentence')).length > 5)
  await until('the timeline tells the story', async () => (await page.locator('.timeline .event').count()) >= 2)
  await page.keyboard.press('/')
  await page.keyboard.type('tick 3')
  await until('search finds the line', async () => (await page.locator('[data-testid=log] mark').count()) === 1)
  await page.keyboard.press('Escape')
  const [saved] = await Promise.all([page.waitForEvent('download'), page.click('[data-testid=log-download]')])
  ok(saved.suggestedFilename().startsWith(first), 'the whole output can be downloaded', saved.suggestedFilename())
  await shot('job-done')
  await page.reload()
  await until('a reload keeps the session', async () => (await state()) === 'completed')

  /* ---- list and back ---- */
  await page.click('nav >> text=Jobs')
  await until('the job is in the list', async () => (await page.locator(`[data-testid=row-${first}]`).count()) === 1)
  await shot('jobs-light')
  await page.click(`[data-testid=row-${first}]`)
  await page.locator('[data-testid=job-state]').waitFor()
  await page.goBack()
  await until('going back returns to the same row', async () => (await page.locator(`[data-testid=row-${first}].selected`).count()) === 1)
  await page.fill('[data-testid=jobs-search]', 'browser-test')
  await until('filters are kept in the address', () => path().includes('q=browser-test'))

  /* ---- cancel another ---- */
  await page.goto(`${base}/submit`)
  await page.fill('[data-testid=command]', 'sleep 600')
  await gpuField.fill('0')
  await gpuField.blur()
  await page.keyboard.press('Control+Enter')
  await until('Ctrl-Enter submits', () => /^\/jobs\/j-/.test(path()))
  await until('the second job runs', async () => (await state()) === 'running', 20000)
  await page.locator('h1').first().click()
  await page.keyboard.press('x')
  await page.locator('[data-testid=cancel-confirm]').waitFor()
  await shot('cancel')
  await page.click('[data-testid=cancel-confirm]')
  await until('it is cancelled', async () => (await state()) === 'cancelled', 30000)

  /* ---- palette ---- */
  await page.keyboard.press('Control+k')
  await page.locator('[data-testid=palette-input]').fill('browser-test')
  await until('the palette finds the job by name', async () => (await page.locator(`#entry-${first}`).count()) === 1)
  await shot('palette')
  await page.keyboard.press('Enter')
  await until('and opens it', async () => /^\/jobs\/j-/.test(path()) && (await page.locator('[role=dialog]').count()) === 0)

  /* ---- GPUs ---- */
  await page.keyboard.press('g')
  await page.keyboard.press('g')
  await until('the GPU page opens by its keys', () => path().startsWith('/gpus'))
  await until('it shows GPUs or says why there are none', async () => (await page.locator('[data-testid=heat], .empty').count()) > 0)
  await shot('gpus-light')

  /* ---- tokens ---- */
  await page.goto(`${base}/account/tokens`)
  await page.click('[data-testid=token-new] >> visible=true')
  await page.fill('#token-name', 'browser-test')
  await page.click('[data-testid=token-create]')
  await until('a token is shown once', async () => /drv_/.test(await text('[data-testid=token-secret] pre')))
  await shot('tokens')
  const secret = (await text('[data-testid=token-secret] pre')).trim()
  const answer = await fetch(`${base}/v1/session`, { headers: { Authorization: `Bearer ${secret}` } })
  ok(answer.status === 200, 'and it signs a script in', `status ${answer.status}`)
  await page.reload()
  await until('it is not shown again', async () => (await page.locator('table').count()) === 1 && !(await page.locator('main').innerText()).includes(secret))
  await page.locator('tbody tr', { hasText: 'browser-test' }).first().locator('button').click()
  await page.locator('.el-dialog .el-button--danger >> visible=true').click()
  await until('a deleted token is refused', async () => (await fetch(`${base}/v1/session`, { headers: { Authorization: `Bearer ${secret}` } })).status === 401)

  /* ---- Chinese, dark, phone ---- */
  await page.goto(`${base}/`)
  await page.click('[data-testid=account]')
  await page.click('[data-testid=locale-zh-CN]')
  await until('the UI speaks Chinese', async () => (await text('h1')) === '概览')
  const crumbs = /\b(action|account|theme|connection|error|nav|sim|state|gpuState|overview|jobs|job|log|gpus|submit|tokens|palette|keys)\.[a-z]\w+/
  for (const [name, address] of [['overview', '/'], ['jobs', '/jobs'], ['job', `/jobs/${first}`], ['gpus', '/gpus'], ['submit', '/submit'], ['tokens', '/account/tokens']]) {
    await page.goto(`${base}${address}`)
    await page.locator('h1').first().waitFor()
    await settled()
    const seen = await page.locator('.frame').innerText()
    ok(!crumbs.test(seen), `no untranslated text on ${name}`, crumbs.exec(seen)?.[0])
    await shot(`${name}-zh`)
  }
  await page.emulateMedia({ colorScheme: 'dark' })
  await until('dark follows the system', () => page.evaluate(() => document.documentElement.classList.contains('dark')))
  await page.evaluate(() => localStorage.setItem('drover.locale', 'en'))
  for (const [name, address] of shots ? [['overview', '/'], ['jobs', '/jobs'], ['job', `/jobs/${first}`], ['gpus', '/gpus'], ['submit', '/submit']] : []) {
    await page.goto(`${base}${address}`)
    await page.locator('h1').first().waitFor()
    await settled()
    await shot(`${name}-dark`)
  }
  await page.setViewportSize({ width: 390, height: 844 })
  for (const [name, address] of [['overview', '/'], ['jobs', '/jobs'], ['job', `/jobs/${first}`], ['gpus', '/gpus'], ['submit', '/submit']]) {
    await page.goto(`${base}${address}`)
    await page.locator('h1').first().waitFor()
    await settled()
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
    ok(over <= 0, `${name} fits a phone`, `${over} px too wide`)
    await shot(`${name}-phone`)
  }
  await page.setViewportSize({ width: 1440, height: 900 })
  await page.emulateMedia({ colorScheme: 'light' })

  await page.goto(`${base}/no/such/page`)
  await until('an unknown address says so', async () => /no such page/.test(await text('main')))

  /* ---- faults ---- */
  if (mock) {
    await page.goto(`${base}/jobs`)
    await page.locator('.rows').waitFor()
    await fault('skip-seq')
    faultsExpected = true
    const inBackground = await fetch(`${base}/v1/session`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ email, password }) }).then((r) => r.json())
    const submitBehind = (name) =>
      fetch(`${base}/v1/jobs`, { method: 'POST', headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${inBackground.access_token}` }, body: JSON.stringify({ name, command: ['true'] }) }).then((r) => r.json())
    const lost = await submitBehind('lost-message')
    await until('a lost live message is made good', async () => (await page.locator(`[data-testid=row-${lost.id}]`).count()) === 1, 10000)

    await fault('refuse-sockets')
    await fault('drop-sockets')
    const polled = await submitBehind('by-polling')
    await until('without a socket the page polls, and says so', async () => (await page.locator(`[data-testid=row-${polled.id}]`).count()) === 1 && /every 5 seconds/.test(await text('.bar')), 12000)
    await shot('polling')
    await fault('accept-sockets')
    await page.click('.bar button')
    await until('and goes back to live', async () => (await page.locator('.bar.shown').count()) === 0)

    await fault('down')
    await until('a lost server shows the thin bar with the age', async () => /cannot be reached.*old/.test(await text('.bar')), 12000)
    await shot('lost')
    await fault('up')
    await until('which heals itself', async () => (await page.locator('.bar.shown').count()) === 0, 40000)

    await fault('down')
    await page.evaluate(() => history.pushState({}, '', '/jobs?state=active'))
    await context.route('**/v1/session/refresh', (r) => r.abort())
    await fault('up')
    await page.reload()
    await until('a page that opens while the server is away says so', async () => /cannot be reached/.test(await text('[role=alert]')))
    await context.unroute('**/v1/session/refresh')
    await until('and fills itself when it is back', async () => (await page.locator('.rows .job').count()) > 0 && path() === '/jobs?state=active')

    await fault('expire-sessions')
    await page.click('nav >> text=Overview')
    await until('an expired session is renewed silently', async () => (await page.locator('.answer .verdict').count()) === 3 && path() === '/')
    await page.goto(`${base}/jobs?state=ended`)
    await page.locator('.rows').waitFor()
    await fault('end-sessions')
    await page.click('nav >> text=Overview')
    await until('an ended one asks to sign in', () => path().startsWith('/sign-in'))
    await signIn()
    await until('and goes on where it was', () => path() === '/')
    faultsExpected = false
  }

  await page.click('[data-testid=account]')
  await page.click('[data-testid=sign-out]')
  await until('signing out leaves', () => path().startsWith('/sign-in'))
  const kept = await page.evaluate(() => localStorage.getItem('drover.refresh'))
  ok(kept === null, 'and forgets the session')
  if (mock) {
    /* ---- the links of mails ---- */
    faultsExpected = true
    const whole = () => new URL(page.url()).pathname + new URL(page.url()).hash
    await page.setViewportSize({ width: 390, height: 844 })
    await page.fill('input[name=email]', email)
    await page.click('[data-testid=forgot]')
    await shot('forgot')
    await page.click('[data-testid=send-link]')
    await until('a server without mail says who can help', async () => /sends no mail/.test(await text('[data-testid=asked]')) && (await text('form pre')).includes(`drover user reset ${email}`))
    await shot('forgot-no-mail')
    await page.goto(`${base}/reset-password`)
    await until('a link that was cut says so', async () => /not complete/.test(await text('[role=alert]')))
    await page.goto(`${base}/reset-password#token=drl_reset`)
    await page.fill('input[name=new-password]', 'a-new-one-73')
    await page.fill('input[name=repeat-password]', 'another-one')
    ok(await page.locator('[data-testid=set-password]').isDisabled(), 'two different passwords are not sent')
    await shot('reset')
    await page.fill('input[name=repeat-password]', 'a-new-one-73')
    await page.click('[data-testid=set-password]')
    await until('a link sets a new password and leaves the address', async () => /is set/.test(await text('[data-testid=reset-done]')) && whole() === '/reset-password')
    await shot('reset-done')
    await page.click('form .go')
    await until('from there one signs in', () => path() === '/sign-in')
    await page.goBack()
    await until('going back does not bring the token', () => whole() === '/reset-password')
    await page.goto(`${base}/verify-email#token=drl_verify`)
    await until('a link confirms an address', async () => (await text('[data-testid=verified]')).includes('@') && whole() === '/verify-email')
    await page.goto(`${base}/verify-email#token=drl_verify`)
    await until('once', async () => /used already/.test(await text('[role=alert]')) && whole() === '/verify-email')
    await shot('verify-used')
    faultsExpected = false
  }
  if (!mock) {
    const asked = []
    page.on('request', (request) => asked.push(request.url()))
    await page.goto(`${base}/redoc`)
    await until('/redoc draws the API', async () => (await page.locator('#redoc [data-section-id]').count()) > 20, 40000)
    const remote = asked.filter((url) => !url.startsWith(base) && !url.startsWith('data:') && !url.startsWith('blob:'))
    ok(remote.length === 0 && asked.length > 3, 'and asks nobody else for anything', remote.join(' '))
  }
  ok(complaints.length === 0, 'the browser had nothing to complain about', complaints.slice(0, 5).join(' | '))
} catch (error) {
  ok(false, 'the script ran to its end', error.message.split('\n').slice(0, 3).join(' '))
  if (shots) await page.screenshot({ path: `${shots}/crashed.png` }).catch(() => undefined)
} finally {
  await browser.close()
}
if (process.env.DROVER_TEST_MORE !== '1') console.log(`1..${number}`)
process.exit(failures === 0 ? 0 : 1)
