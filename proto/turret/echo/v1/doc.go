// Package echov1 is the generated code of turret.echo.v1.EchoService: one method
// of each of the four kinds, whose requests say how the server is to behave.
// Tests and examples of this module use it; the server is in internal/echo.
package echov1
