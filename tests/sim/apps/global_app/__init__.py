"""An application as many are: everything is a global of a module. It lives outside of packages that are installed."""
