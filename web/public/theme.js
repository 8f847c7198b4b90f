// Sets the colour scheme and the language of the document before the first paint.
(function () {
  var root = document.documentElement
  var theme = null
  var language = null
  try {
    theme = localStorage.getItem('drover.theme')
    language = localStorage.getItem('drover.locale')
  } catch (e) {
    // Storage may be refused; the system's choice is used then.
  }
  var dark = theme === 'dark' || (theme !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches)
  root.classList.toggle('dark', dark)
  root.lang = language || (/^zh/i.test(navigator.language) ? 'zh-CN' : 'en')
})()
