// A token that is entered stays in this browser's memory and goes nowhere but to this API.
SwaggerUIBundle({ url: "api-docs", dom_id: "#page", deepLinking: true, tryItOutEnabled: true, validatorUrl: null });
