// Package conventions has no code, only tests: they check the rules of
// CONTRIBUTING.md that a linter does not know. Which package may import which, what
// a declaration must look like, and in which words comments and documents are
// written.
package conventions
