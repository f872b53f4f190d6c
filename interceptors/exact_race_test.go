//go:build race

package interceptors_test

const exact = false
