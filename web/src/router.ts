/* Addresses. Old addresses of the documents open the page that took their place. */
import { createRouter, createWebHistory, type Router } from 'vue-router'
import { i18n } from './locales'
import { useSession } from './stores/session'

declare module 'vue-router' {
  interface RouteMeta {
    title?: string
    open?: boolean
    nav?: string
  }
}

export function makeRouter(): Router {
  const router = createRouter({
    history: createWebHistory(),
    routes: [
      { path: '/sign-in', name: 'sign-in', component: () => import('./pages/SignIn.vue'), meta: { title: 'signIn.title', open: true } },
      { path: '/forgot-password', name: 'forgot-password', component: () => import('./pages/ForgotPassword.vue'), meta: { title: 'recover.askTitle', open: true } },
      { path: '/reset-password', name: 'reset-password', component: () => import('./pages/ResetPassword.vue'), meta: { title: 'recover.title', open: true } },
      { path: '/verify-email', name: 'verify-email', component: () => import('./pages/VerifyEmail.vue'), meta: { title: 'recover.verifyTitle', open: true } },
      { path: '/', name: 'overview', component: () => import('./pages/OverviewPage.vue'), meta: { title: 'nav.overview', nav: 'overview' } },
      { path: '/jobs', name: 'jobs', component: () => import('./pages/JobsPage.vue'), meta: { title: 'nav.jobs', nav: 'jobs' } },
      { path: '/jobs/:id', name: 'job', component: () => import('./pages/JobPage.vue'), props: true, meta: { title: 'nav.jobs', nav: 'jobs' } },
      { path: '/gpus', name: 'gpus', component: () => import('./pages/GpusPage.vue'), meta: { title: 'nav.gpus', nav: 'gpus' } },
      { path: '/submit', name: 'submit', component: () => import('./pages/SubmitPage.vue'), meta: { title: 'nav.submit', nav: 'submit' } },
      { path: '/account/tokens', name: 'tokens', component: () => import('./pages/TokensPage.vue'), meta: { title: 'tokens.title' } },
      { path: '/dashboard', redirect: '/' },
      { path: '/login', redirect: (to) => ({ path: '/sign-in', query: to.query }) },
      { path: '/tasks', redirect: '/jobs' },
      { path: '/tasks/create', redirect: '/submit' },
      { path: '/tasks/:id', redirect: (to) => `/jobs/${encodeURIComponent(String(to.params.id))}` },
      { path: '/gpu', redirect: '/gpus' },
      { path: '/:rest(.*)*', name: 'not-found', component: () => import('./pages/NotFound.vue'), meta: { title: 'notFound.title' } },
    ],
  })

  router.beforeEach(async (to) => {
    const session = useSession()
    try {
      await session.restore()
    } catch {
      // The server cannot be reached: open the page, which says so and heals itself.
      return true
    }
    if (to.meta.open || session.state === 'in') return true
    return { name: 'sign-in', query: to.fullPath === '/' ? {} : { to: to.fullPath } }
  })
  router.afterEach((to) => {
    const title = to.meta.title ? i18n.global.t(to.meta.title) : ''
    document.title = title ? `${title} · Drover` : 'Drover'
  })
  return router
}
