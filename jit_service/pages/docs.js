// Nothing is asked of another host, and a token that is typed in stays in this page.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  docExpansion: "list",
  deepLinking: true,
  validatorUrl: null,
  persistAuthorization: false,
});
