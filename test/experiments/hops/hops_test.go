package hops

import "testing"

// TestStorms sees that Turret's retries hold over three hops, and that others'
// retries are set up right: without a bound they multiply.
func TestStorms(t *testing.T) {
	for _, r := range All() {
		least, most := 1.0, 27.1
		switch r.Name {
		case Ours, Ours + " (error replaced)":
			least, most = 1.05, 1.3
		case "no retries":
			least, most = 0.99, 1.01
		case "gRPC's retryPolicy":
			least = 5
		default:
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			if s := Run(t, r, 1); s.Average < least || s.Average > most || s.Recovered > 1 {
				t.Errorf("%+v; want between %v and %v times the calls, and a recovery within a second", s, least, most)
			}
		})
	}
}
