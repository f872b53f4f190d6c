// Package balance chooses endpoints: the best one, not the next one.
package balance
