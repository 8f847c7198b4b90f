/* How many columns a text takes in a monospaced font: two for East Asian wide characters. */
export const tabCells = 4

function wide(code: number): boolean {
  return (
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0xffe0 && code <= 0xffe6) ||
    (code >= 0x1f300 && code <= 0x1faff) ||
    (code >= 0x20000 && code <= 0x3fffd)
  )
}

export function cellCount(text: string): number {
  let cells = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 9) cells += tabCells - (cells % tabCells)
    else if (code < 0x1100) cells++
    else if (code >= 0xd800 && code < 0xdc00) {
      cells += wide(text.codePointAt(i) ?? 0) ? 2 : 1
      i++
    } else cells += wide(code) ? 2 : 1
  }
  return cells
}
