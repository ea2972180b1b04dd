"""Customer service (微信客服): people outside of the company, and the persons who serve them."""
