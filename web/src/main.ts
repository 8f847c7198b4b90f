/* Start: language first, so that nothing is drawn in the wrong one; then the session. */
import { createPinia } from 'pinia'
import { createApp } from 'vue'
import App from './App.vue'
import { installHooks } from './api/client'
import { listenForKeys } from './lib/keys'
import { i18n, loadLocale } from './locales'
import { makeRouter } from './router'
import { useConnection } from './stores/connection'
import { usePrefs } from './stores/prefs'
import { useSession } from './stores/session'
import 'element-plus/theme-chalk/base.css'
import './styles/base.css'

const app = createApp(App)
app.use(createPinia())
const session = useSession()
const prefs = usePrefs()
const router = makeRouter()

installHooks({
  accessToken: () => session.accessToken(),
  renew: () => session.renew(),
  ended() {
    if (session.state !== 'in') return
    const to = router.currentRoute.value
    session.forget()
    if (to.name !== 'sign-in') void router.replace({ name: 'sign-in', query: { to: to.fullPath, ended: '1' } })
  },
  reached: (ok) => useConnection().reached(ok),
  language: () => i18n.global.locale.value,
})

listenForKeys()
app.use(i18n)
document.documentElement.lang = prefs.locale
void loadLocale(prefs.locale).finally(() => {
  app.use(router)
  app.mount('#app')
})
