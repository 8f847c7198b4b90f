// The remote logo in its footer is taken out when the pages are built (tools/build).
// disableSearch: the search index runs in a blob worker, which the Content-Security-Policy forbids.
Redoc.init(
  "/openapi.json",
  {
    disableSearch: true,
    expandResponses: "200,201",
    theme: { typography: { fontFamily: "system-ui, sans-serif", headings: { fontFamily: "system-ui, sans-serif" } } },
  },
  document.getElementById("redoc"),
);
