"use strict";
// The document's own address is given whole, so that the relative ones in it are resolved against it.
SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href,
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
});
