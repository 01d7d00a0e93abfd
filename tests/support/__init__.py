"""What tests share: Node.js and a JavaScript client driven from Python."""
