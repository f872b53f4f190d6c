// Package timeout bounds how long a call may take.
package timeout
